"""Models: created, changed, listed, deleted."""

import uuid

from trivium.registry.v1 import registry_pb2 as pb

from tests.harness.wording import missing
from tests.stack import User, pages, refused


def test_a_model_is_created_once_and_read_back(user: User):
    created = user.api.CreateModel(pb.CreateModelRequest(model="fares", description="Fares", labels={"team": "a"}))
    read = user.api.GetModel(pb.GetModelRequest(model="fares"))
    assert read.model == created.model
    assert read.model.name == f"tenants/{user.tenant}/models/fares"
    with refused("MODEL_EXISTS"):
        user.api.CreateModel(pb.CreateModelRequest(model="fares"))


def test_a_repeated_request_id_creates_one_model_and_answers_the_same(user: User):
    request = pb.CreateModelRequest(model="fares", request_id=str(uuid.uuid4()))
    assert user.api.CreateModel(request) == user.api.CreateModel(request)
    request.description = "another wish under the same id"
    with refused("REQUEST_ID_REUSED"):
        user.api.CreateModel(request)


def test_names_of_the_platform_are_refused(user: User):
    for name in ("base", "auto"):
        with refused("FIELD_INVALID"):
            user.api.CreateModel(pb.CreateModelRequest(model=name))
        with refused("FIELD_INVALID") as failures:
            user.api.GetModel(pb.GetModelRequest(model=name))
        assert failures[0].variables["field"] == "model"
        assert not missing(failures[0].variables["problem"], name, "platform")


def test_an_update_with_an_old_etag_changes_nothing(user: User):
    first = user.api.CreateModel(pb.CreateModelRequest(model="fares")).model
    second = user.api.UpdateModel(pb.UpdateModelRequest(model="fares", description="new", etag=first.etag)).model
    assert second.etag != first.etag
    with refused("ETAG_MISMATCH") as failures:
        user.api.UpdateModel(pb.UpdateModelRequest(model="fares", description="lost", etag=first.etag))
    assert failures[0].variables["etag"] == second.etag
    assert user.api.GetModel(pb.GetModelRequest(model="fares")).model.description == "new"


def test_an_update_leaves_what_it_does_not_name(user: User):
    user.api.CreateModel(pb.CreateModelRequest(model="fares", description="Fares", labels={"team": "a"}))
    changed = user.api.UpdateModel(pb.UpdateModelRequest(model="fares", labels={}, replace_labels=True)).model
    assert changed.description == "Fares"
    assert not changed.labels


def test_models_are_listed_in_pages_without_gap_or_duplicate(user: User):
    names = [f"m{number}" for number in range(7)]
    for name in reversed(names):
        user.api.CreateModel(pb.CreateModelRequest(model=name))
    listed = pages(lambda token: user.api.ListModels(pb.ListModelsRequest(page_size=3, page_token=token)), "models")
    assert [model.model for model in listed] == names


def test_a_page_token_of_another_list_is_refused(user: User):
    for name in ("a", "b"):
        user.api.CreateModel(pb.CreateModelRequest(model=name))
    token = user.api.ListModels(pb.ListModelsRequest(page_size=1)).next_page_token
    for forged in (token[:-4] + "AAAA", "nonsense", "e30"):
        with refused("PAGE_TOKEN_INVALID"):
            user.api.ListModels(pb.ListModelsRequest(page_token=forged))
    with refused("PAGE_TOKEN_INVALID"):
        user.api.ListVersions(pb.ListVersionsRequest(model="a", page_token=token))


def test_deleting_a_model_takes_its_versions_but_never_an_alias(user: User):
    version = user.publish("fares")
    user.point("fares", version.version)
    with refused("MODEL_IN_USE"):
        user.api.DeleteModel(pb.DeleteModelRequest(model="fares"))
    user.api.DeleteAlias(pb.DeleteAliasRequest(model="fares", alias="prod"))
    user.api.DeleteModel(pb.DeleteModelRequest(model="fares"))
    with refused("MODEL_NOT_FOUND"):
        user.api.GetModel(pb.GetModelRequest(model="fares"))
    with refused("VERSION_NOT_FOUND"):
        user.api.GetVersion(pb.GetVersionRequest(version=version.version))


def test_a_model_whose_version_another_was_trained_from_stays(user: User):
    parent = user.publish("parent")
    user.publish("child", lineage={"parent_version": parent.version})
    with refused("MODEL_IN_USE"):
        user.api.DeleteModel(pb.DeleteModelRequest(model="parent"))
