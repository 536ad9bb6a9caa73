"""What is held stays and says who holds it; what was deleted comes back until its grace is over."""

from collections.abc import Iterator
from typing import Any

import pytest
from trivium.registry.v1 import model_pb2
from trivium.registry.v1 import registry_pb2 as pb

from tests.adapters import Adapter
from tests.encoder_files import EncoderFiles
from tests.harness.wording import missing
from tests.stack import Stack, User, download, eventually, pages, refused


@pytest.fixture(scope="module")
def quick(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A registry that sweeps all the time and purges what was deleted at once."""
    settings = {"TRIVIUM_REGISTRY_SWEEP_SECONDS": "0.1", "TRIVIUM_REGISTRY_DELETION_GRACE_SECONDS": "0"}
    running = Stack(tmp_path_factory.mktemp("quick"), settings, beside=stack)
    yield running
    running.close()


def delete(user: User, version: str, **how: Any) -> Any:
    return user.api.DeleteVersion(pb.DeleteVersionRequest(model="fares", version=version, **how))


def restore(user: User, version: str) -> Any:
    return user.api.RestoreVersion(pb.RestoreVersionRequest(model="fares", version=version)).version


def listed(user: User, *, deleted: bool = False) -> list[int]:
    def page(token: str) -> Any:
        return user.api.ListVersions(pb.ListVersionsRequest(model="fares", page_token=token, show_deleted=deleted))

    return [version.number for version in pages(page, "versions")]


def test_a_deleted_version_is_hidden_and_comes_back_as_it_was(user: User):
    before = user.publish("fares", Adapter(salt=7.0).files())
    gone = delete(user, before.version).version
    assert gone.purge_time.seconds - gone.delete_time.seconds == 7 * 24 * 3600
    for call, request in (
        (user.api.GetVersion, pb.GetVersionRequest(version=before.version)),
        (user.api.SetAlias, pb.SetAliasRequest(model="fares", alias="prod", target_version="1")),
        (user.api.TagVersion, pb.TagVersionRequest(version=before.version, add=["best"])),
        (user.api.GetLineage, pb.GetLineageRequest(version=before.version)),
        (user.api.DeleteVersion, pb.DeleteVersionRequest(model="fares", version=before.version)),
    ):
        with refused("VERSION_NOT_FOUND"):
            call(request)
    with refused("MODEL_NOT_FOUND"):
        user.resolve("fares@1")
    assert (listed(user), listed(user, deleted=True)) == ([], [1])
    assert restore(user, "1") == before
    assert restore(user, "1") == before
    assert listed(user) == [1]
    assert [download(user.api, file.sha256) for file in before.files]
    kinds = [event.kind for event in user.events_so_far()]
    assert kinds[-2:] == [model_pb2.EVENT_KIND_VERSION_DELETED, model_pb2.EVENT_KIND_VERSION_RESTORED]


def test_the_same_content_again_is_the_deleted_version_back(user: User):
    files = Adapter(salt=8.0).files()
    first = user.publish("fares", files)
    delete(user, first.version)
    assert user.publish("fares", files) == first
    assert listed(user) == [1]


def test_a_generator_that_holds_a_version_ready_keeps_it_until_it_is_forced(stack: Stack, user: User):
    version = user.publish("fares").version
    stack.service().report("g1", user.tenant, version, "READY")
    with refused("VERSION_HELD") as failures:
        delete(user, version)
    assert not missing(failures[0].variables["name"], "fares@1")
    assert failures[0].variables["holders"] == "g1"
    with refused("VERSION_HELD"):
        user.api.DeleteModel(pb.DeleteModelRequest(model="fares"))
    delete(user, version, force=True)
    # What was said of it before counts no more when it is back.
    restore(user, version)
    assert user.point("fares", version).state == model_pb2.ALIAS_STATE_PENDING


def test_a_word_that_was_taken_back_or_of_a_former_life_holds_nothing(quick: Stack):
    # Not on the session's registry: a second living generator there would change what other tests' reports decide.
    user, generator = quick.newcomer(), quick.service()
    one, two = user.publish("fares").version, user.publish("fares").version
    generator.report("g2", user.tenant, one, "READY", life="before")
    generator.report("g2", user.tenant, two, "READY", life="before")
    generator.report("g2", user.tenant, one, "LOADING", "unloaded", life="before")
    delete(user, one)
    generator.report("g2", "", "", "", life="after")
    delete(user, two)


def test_force_does_not_pass_an_alias_or_a_child(user: User):
    parent = user.publish("fares").version
    child = user.publish("fares", lineage={"parent_version": parent}).version
    user.point("fares", child)
    for version, *told in (
        (parent, "child fares@2", "`trivium models rm fares@2`"),
        (child, "alias fares@prod", "`trivium models rm fares@prod --alias`"),
    ):
        with refused("VERSION_IN_USE") as failures:
            delete(user, version, force=True)
        for words in told:
            assert words in failures[0].message


def test_every_alias_that_points_to_a_version_is_named_with_what_moves_or_deletes_it(user: User):
    version = user.publish("fares").version
    for alias in ("next", "prod", "trial"):
        user.point("fares", version, alias=alias)
    with refused("VERSION_IN_USE") as failures:
        delete(user, version)
    holders = ("fares@next", "fares@prod", "fares@trial")
    assert failures[0].variables["name"] == "fares@1"
    assert not missing(failures[0].variables["user"], *holders)
    for remedy in ("`trivium models alias fares@next VERSION`", "`trivium models rm fares@next --alias`"):
        assert remedy in failures[0].variables["remedy"]
    with refused("MODEL_IN_USE") as failures:
        user.api.DeleteModel(pb.DeleteModelRequest(model="fares"))
    assert failures[0].variables["name"] == "fares"
    assert not missing(failures[0].variables["user"], *holders)
    assert "`trivium models rm fares@next --alias`" in failures[0].variables["remedy"]


def test_every_parent_is_held_by_what_was_made_from_it(user: User):
    one, two = user.publish("fares").version, user.publish("fares").version
    user.publish("fares", lineage={"parent_version": one, "further_parents": [two]})
    for version in (one, two):
        with refused("VERSION_IN_USE"):
            delete(user, version)


def test_a_child_comes_back_after_its_parent_and_goes_for_good_before_it(user: User):
    parent = user.publish("fares").version
    child = user.publish("fares", lineage={"parent_version": parent}).version
    delete(user, child)
    delete(user, parent)
    with refused("PARENT_DELETED") as failures:
        restore(user, child)
    assert failures[0].variables["parent"] == "fares@1"
    with refused("VERSION_IN_USE") as failures:
        delete(user, parent, purge=True)
    assert not missing(failures[0].variables["user"], "child fares@2", "deleted")
    assert "`trivium models rm fares@2 --purge`" in failures[0].variables["remedy"]
    delete(user, child, purge=True)
    delete(user, parent, purge=True)
    assert listed(user, deleted=True) == []


def test_what_is_purged_is_gone_for_good_with_all_that_hung_on_it(user: User):
    version = user.publish("fares").version
    user.api.TagVersion(pb.TagVersionRequest(version=version, add=["best"]))
    evaluation = model_pb2.Evaluation(metric="accuracy", value=1.0)
    user.api.RecordEvaluation(pb.RecordEvaluationRequest(version=version, evaluation=evaluation))
    assert not delete(user, version, purge=True).HasField("version")
    with refused("VERSION_NOT_FOUND"):
        restore(user, version)
    assert user.events_so_far()[-1].kind == model_pb2.EVENT_KIND_VERSION_DELETED
    assert user.publish("fares").number == 2


def test_a_deleted_model_comes_back_with_the_versions_that_went_with_it(user: User):
    for _ in range(3):
        user.publish("fares")
    delete(user, "2")
    gone = user.api.DeleteModel(pb.DeleteModelRequest(model="fares")).model
    assert gone.purge_time.seconds > gone.delete_time.seconds
    assert not user.api.ListModels(pb.ListModelsRequest()).models
    assert [model.model for model in user.api.ListModels(pb.ListModelsRequest(show_deleted=True)).models] == ["fares"]
    with refused("MODEL_NOT_FOUND"):
        listed(user)
    user.api.RestoreModel(pb.RestoreModelRequest(model="fares"))
    assert (listed(user), listed(user, deleted=True)) == ([3, 1], [3, 2, 1])
    assert restore(user, "2").number == 2


def test_what_served_before_is_there_to_go_back_to_once_it_is_restored(stack: Stack, user: User):
    one, two = user.publish("fares").version, user.publish("fares").version
    for version in (one, two):
        stack.service().report("g1", user.tenant, version, "READY")
        user.point("fares", version)
    assert user.alias("fares").previous_version == one
    delete(user, one, force=True)
    assert not user.alias("fares").previous_version
    restore(user, one)
    assert user.alias("fares").previous_version == one


def test_a_model_made_again_under_its_name_begins_anew_and_its_old_versions_can_be_restored(user: User):
    user.publish("fares")
    user.api.DeleteModel(pb.DeleteModelRequest(model="fares"))
    made = user.api.CreateModel(pb.CreateModelRequest(model="fares", description="anew")).model
    assert (made.description, made.HasField("delete_time"), listed(user)) == ("anew", False, [])
    assert user.publish("fares").number == 2
    assert restore(user, "1").number == 1
    assert listed(user) == [2, 1]


def test_a_model_made_again_has_no_gate_of_the_old_one_and_a_restored_one_has_its_own(user: User):
    user.publish("fares")
    gate = pb.Gate(gate="good", metric="accuracy", required_value=0.9)
    user.api.CreateGate(pb.CreateGateRequest(model="fares", gate=gate))
    user.api.DeleteModel(pb.DeleteModelRequest(model="fares"))
    user.api.RestoreModel(pb.RestoreModelRequest(model="fares"))
    (kept,) = user.api.ListGates(pb.ListGatesRequest(model="fares")).gates
    assert kept.gate == "good"
    user.api.DeleteModel(pb.DeleteModelRequest(model="fares"))
    user.api.CreateModel(pb.CreateModelRequest(model="fares"))
    assert not user.api.ListGates(pb.ListGatesRequest(model="fares")).gates
    new = user.publish("fares").version
    assert user.point("fares", new).target_version == new


def test_a_model_is_purged_at_once_when_that_is_wanted(user: User):
    user.publish("fares")
    user.api.DeleteModel(pb.DeleteModelRequest(model="fares"))
    assert not user.api.DeleteModel(pb.DeleteModelRequest(model="fares", purge=True)).HasField("model")
    with refused("MODEL_NOT_FOUND"):
        user.api.RestoreModel(pb.RestoreModelRequest(model="fares"))
    assert user.publish("fares").number == 1


def changes(user: User, model: str = "fares") -> list[Any]:
    """What happened under a model's name, oldest first."""

    def page(token: str) -> Any:
        return user.api.ListModelChanges(pb.ListModelChangesRequest(model=model, page_size=2, page_token=token))

    return list(pages(page, "changes"))[::-1]


def kinds(user: User) -> list[tuple[str, int, bool]]:
    """What happened, to which number, and whether somebody asked for it."""
    prefix = "MODEL_CHANGE_KIND_"
    return [
        (model_pb2.ModelChangeKind.Name(item.kind).removeprefix(prefix), item.version_number, bool(item.principal))
        for item in changes(user)
    ]


def test_every_deletion_says_who_when_and_why_and_outlives_what_it_tells_of(user: User):
    with refused("MODEL_NOT_FOUND"):
        changes(user)
    files = Adapter(salt=12.0).files()
    first = user.publish("fares", files)
    assert changes(user) == []
    delete(user, "1", reason="a leak")
    (told,) = changes(user)
    assert (told.version, told.reason, told.number) == (first.version, "a leak", 1)
    assert told.principal
    assert told.create_time.seconds >= first.create_time.seconds
    user.publish("fares", files)
    user.api.DeleteModel(pb.DeleteModelRequest(model="fares"))
    user.api.CreateModel(pb.CreateModelRequest(model="fares"))
    restore(user, "1")
    user.api.DeleteModel(pb.DeleteModelRequest(model="fares"))
    user.api.RestoreModel(pb.RestoreModelRequest(model="fares", reason="it is needed"))
    user.api.DeleteModel(pb.DeleteModelRequest(model="fares", purge=True))
    assert kinds(user) == [
        (kind, number, True)
        for kind, number in (
            ("VERSION_DELETED", 1), ("VERSION_RESTORED", 1), ("VERSION_DELETED", 1), ("MODEL_DELETED", 0),
            ("MODEL_RESTORED", 0), ("VERSION_RESTORED", 1), ("VERSION_DELETED", 1), ("MODEL_DELETED", 0),
            ("MODEL_RESTORED", 0), ("VERSION_RESTORED", 1), ("VERSION_DELETED", 1), ("VERSION_PURGED", 1),
            ("MODEL_PURGED", 0),
        )
    ]  # fmt: skip
    assert changes(user)[8].reason == "it is needed"
    assert [change.number for change in changes(user)] == list(range(1, 14))
    user.publish("fares")
    delete(user, "1")
    assert changes(user)[-1].number == 14


def test_after_the_grace_the_sweep_takes_a_model_and_its_versions(quick: Stack):
    user = quick.newcomer()
    user.publish("fares")
    user.api.DeleteModel(pb.DeleteModelRequest(model="fares"))

    def gone() -> bool:
        return not user.api.ListModels(pb.ListModelsRequest(show_deleted=True)).models

    eventually(gone, "the model is purged")
    with refused("MODEL_NOT_FOUND"):
        user.api.RestoreModel(pb.RestoreModelRequest(model="fares"))
    assert kinds(user)[2:] == [("VERSION_PURGED", 1, False), ("MODEL_PURGED", 0, False)]
    assert changes(user)[-1].detail == "its grace was over"


def test_a_retention_policy_takes_what_exceeds_it_and_nothing_that_is_needed(quick: Stack):
    user, generator = quick.newcomer(), quick.service()
    versions = [user.publish("fares").version for _ in range(8)]
    for version in versions[:2]:
        generator.report("g1", user.tenant, version, "READY")
        user.point("fares", version)
    generator.report("g1", user.tenant, versions[0], "LOADING", "unloaded")
    user.api.TagVersion(pb.TagVersionRequest(version=versions[2], add=["best"]))
    user.publish("other", lineage={"parent_version": versions[3]})
    generator.report("g1", user.tenant, versions[4], "READY")
    policy = model_pb2.Retention(keep_last=1)
    user.api.UpdateModel(pb.UpdateModelRequest(model="fares", retention=policy))
    # The previous holder, the holder, the tagged one, a parent, one that a generator holds, and the newest.
    eventually(lambda: listed(user) == [8, 5, 4, 3, 2, 1], "what exceeds the policy went")
    gone = next(item for item in changes(user) if item.version_number == 7)
    assert (gone.principal, "retention policy" in gone.detail) == ("", True)
    user.api.UpdateModel(pb.UpdateModelRequest(model="fares", retention=model_pb2.Retention(keep_last=1, keep_days=1)))
    user.publish("fares")
    # Both bounds must be exceeded: nothing here is a day old.
    marker = user.publish("marker").version
    user.api.DeleteVersion(pb.DeleteVersionRequest(model="marker", version=marker))
    eventually(lambda: not _restorable(user, marker), "a sweep has passed")
    assert listed(user) == [9, 8, 5, 4, 3, 2, 1]


def test_a_retention_policy_leaves_the_encoders_that_an_alias_serves_and_served(quick: Stack):
    user, encoder = quick.newcomer(), {"kind": model_pb2.VERSION_KIND_ENCODER, "base_digest": ""}
    versions = [user.publish("fares", EncoderFiles(seed=seed).files(), **encoder).version for seed in range(4)]
    for version in versions[:2]:
        user.point("fares", version)
    policy = model_pb2.Retention(keep_last=1)
    user.api.UpdateModel(pb.UpdateModelRequest(model="fares", retention=policy))
    eventually(lambda: listed(user) == [4, 2, 1], "what exceeds the policy went")


def _restorable(user: User, version: str) -> bool:
    listing = user.api.ListVersions(pb.ListVersionsRequest(model="marker", show_deleted=True)).versions
    return any(item.version == version for item in listing)
