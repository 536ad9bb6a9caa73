"""Tags, cards and measurements say more of a version and leave its digest alone."""

import uuid

from trivium.registry.v1 import model_pb2
from trivium.registry.v1 import registry_pb2 as pb

from tests.harness.wording import missing
from tests.stack import Stack, User, refused


def tag(user: User, version: str, add: list[str] | None = None, remove: list[str] | None = None) -> list[str]:
    request = pb.TagVersionRequest(model="fares", version=version, add=add or [], remove=remove or [])
    return list(user.api.TagVersion(request).version.tags)


def test_tags_are_a_set_that_changes_while_the_version_does_not(user: User):
    version = user.publish("fares")
    assert tag(user, "1", ["old", "best"]) == ["best", "old"]
    assert tag(user, "1", ["best", "v2.1"], ["old", "never-there"]) == ["best", "v2.1"]
    tagged = user.api.GetVersion(pb.GetVersionRequest(version=version.version)).version
    assert (list(tagged.tags), tagged.manifest, tagged.version) == (["best", "v2.1"], version.manifest, version.version)
    (in_list,) = user.api.ListVersions(pb.ListVersionsRequest(model="fares")).versions
    assert list(in_list.tags) == ["best", "v2.1"]


def test_a_tag_is_short_and_there_are_not_too_many(user: User):
    user.publish("fares")
    for bad in ("", "Best", "a b", "-a", "x" * 64):
        with refused("REQUEST_INVALID"):
            tag(user, "1", [bad])
    assert len(tag(user, "1", [f"t{number:02}" for number in range(64)])) == 64
    with refused("LIMIT_REACHED") as failures:
        tag(user, "1", ["one-more"])
    assert not missing(failures[0].message, "fares@1", "64")
    assert "one-more" in tag(user, "1", ["one-more"], ["t00"])


def test_a_card_a_task_and_a_retention_policy_are_kept_and_changed_alone(user: User):
    policy = model_pb2.Retention(keep_last=5)
    request = pb.CreateModelRequest(model="fares", card="# Fares\nWhat they cost.", task="answering", retention=policy)
    request.request_id = str(uuid.uuid4())
    made = user.api.CreateModel(request).model
    assert user.api.CreateModel(request).model == made
    assert (made.card, made.task, made.retention) == (request.card, "answering", policy)
    changed = user.api.UpdateModel(pb.UpdateModelRequest(model="fares", card="", etag=made.etag)).model
    assert (changed.card, changed.task, changed.retention) == ("", "answering", policy)
    user.api.UpdateModel(pb.UpdateModelRequest(model="fares", retention=model_pb2.Retention()))
    assert user.api.GetModel(pb.GetModelRequest(model="fares")).model.retention == model_pb2.Retention()
    whole = "ä" * (32 * 1024)
    assert user.api.UpdateModel(pb.UpdateModelRequest(model="fares", card=whole)).model.card == whole
    # A page of such cards would be too much for an answer.
    assert [model.card for model in user.api.ListModels(pb.ListModelsRequest()).models] == [""]
    with refused("REQUEST_INVALID"):
        user.api.UpdateModel(pb.UpdateModelRequest(model="fares", card=whole + "ä"))


def test_measurements_are_appended_beside_the_manifest(user: User):
    version = user.publish("fares")
    evaluation = model_pb2.Evaluation(
        metric="accuracy", value=0.5, dataset_digest="sha256:" + "d" * 64, dataset_rows=100, note="greedy"
    )
    request = pb.RecordEvaluationRequest(model="fares", version="1", evaluation=evaluation)
    request.request_id = str(uuid.uuid4())
    kept = user.api.RecordEvaluation(request).evaluation
    assert user.api.RecordEvaluation(request).evaluation == kept
    assert (kept.metric, kept.value, kept.note, kept.dataset_rows) == ("accuracy", 0.5, "greedy", 100)
    assert kept.principal
    request.evaluation.value, request.request_id = 0.75, ""
    user.api.RecordEvaluation(request)
    measured = user.api.GetVersion(pb.GetVersionRequest(version=version.version)).version
    assert [item.value for item in measured.evaluations] == [0.75, 0.5]
    assert measured.manifest == version.manifest
    request.evaluation.value = float("inf")
    with refused("FIELD_INVALID"):
        user.api.RecordEvaluation(request)
    request.evaluation.metric = ""
    with refused("REQUEST_INVALID"):
        user.api.RecordEvaluation(request)


def test_what_was_known_at_creation_is_in_the_manifest_and_counts(user: User):
    parents = [user.publish("fares").version for _ in range(2)]
    origin = model_pb2.Lineage(
        parent_version=parents[0],
        further_parents=[parents[1]],
        code_version="0.2.0",
        base_uri="hf:org/name@abc",
        base_digest="sha256:" + "b" * 64,
        evaluations=[model_pb2.Evaluation(metric="accuracy", value=0.9, note="before it was kept")],
    )
    version = user.publish("fares", lineage=origin)
    version.lineage.ClearField("config")
    assert version.lineage == origin
    assert [(item.metric, item.value) for item in version.evaluations] == [("accuracy", 0.9)]
    for word in ("code_version", "base_uri", "further_parents", "before it was kept", "b" * 64):
        assert word in version.manifest
    plain = user.publish("fares", lineage={"job": "j"})
    assert not any(word in plain.manifest for word in ("code_version", "base_uri", "further_parents", "evaluations"))


def test_a_stranger_annotates_nothing(stack: Stack, user: User):
    version = user.publish("fares").version
    stranger = stack.newcomer()
    with refused("VERSION_NOT_FOUND"):
        stranger.api.TagVersion(pb.TagVersionRequest(version=version, add=["best"]))
    evaluation = model_pb2.Evaluation(metric="accuracy", value=0.5)
    with refused("VERSION_NOT_FOUND"):
        stranger.api.RecordEvaluation(pb.RecordEvaluationRequest(version=version, evaluation=evaluation))
