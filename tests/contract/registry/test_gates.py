"""A gate holds an alias back until a version was measured and is good enough, and what it refused can be read."""

import uuid
from typing import Any

import pytest
from trivium.registry.v1 import model_pb2
from trivium.registry.v1 import registry_pb2 as pb

from tests.harness.wording import missing
from tests.stack import Stack, User, refused

SET, ROLLBACK, DELETED, REFUSED = (
    model_pb2.ALIAS_MOVE_KIND_SET,
    model_pb2.ALIAS_MOVE_KIND_ROLLBACK,
    model_pb2.ALIAS_MOVE_KIND_DELETE,
    model_pb2.ALIAS_MOVE_KIND_REFUSED,
)
DATA = "sha256:" + "d" * 64


def gate(user: User, name: str = "good", model: str = "fares", **conditions: Any) -> Any:
    wanted = pb.Gate(gate=name, **{"metric": "accuracy", **conditions})
    return user.api.CreateGate(pb.CreateGateRequest(model=model, gate=wanted)).gate


def measure(user: User, version: str, value: float, metric: str = "accuracy", dataset: str = DATA) -> None:
    evaluation = model_pb2.Evaluation(metric=metric, value=value, dataset_digest=dataset)
    user.api.RecordEvaluation(pb.RecordEvaluationRequest(version=version, evaluation=evaluation))


def moves(user: User, alias: str = "prod") -> list[model_pb2.AliasMove]:
    return list(user.api.ListAliasMoves(pb.ListAliasMovesRequest(model="fares", alias=alias)).moves)


@pytest.fixture
def served(stack: Stack, user: User) -> tuple[User, str, str]:
    """A version that serves with accuracy 0.80, and another that generators hold already."""
    old, new = user.publish("fares").version, user.publish("fares").version
    for version in (old, new):
        stack.service().report("g1", user.tenant, version, "READY")
    measure(user, old, 0.80)
    user.point("fares", old)
    return user, old, new


def test_a_version_that_nobody_measured_does_not_pass_and_hears_what_to_do(served):
    user, _, new = served
    gate(user, dataset_digest=DATA)
    with refused("GATE_NOT_PASSED") as failures:
        user.point("fares", new)
    assert not missing(failures[0].variables["found"], "gate good", "no evaluation of accuracy", DATA)
    measure(user, new, 0.5, dataset="sha256:" + "0" * 64)
    with refused("GATE_NOT_PASSED"):
        user.point("fares", new)
    measure(user, new, 0.5)
    assert user.point("fares", new).serving_version == new


def test_a_threshold_names_what_is_required_and_what_was_found(served):
    user, _, new = served
    gate(user, required_value=0.9)
    gate(user, "quick", metric="latency", direction=pb.METRIC_DIRECTION_LOWER, required_value=0.2)
    measure(user, new, 0.85)
    measure(user, new, 0.3, "latency")
    with refused("GATE_NOT_PASSED") as failures:
        user.point("fares", new)
    found = failures[0].variables["found"]
    assert not missing(found, "gate good", f"accuracy on {DATA}", "at least 0.9", "0.85")
    assert not missing(found, "gate quick", f"latency on {DATA}", "at most 0.2", "0.3")
    # The newest measurement counts.
    measure(user, new, 0.95)
    measure(user, new, 0.1, "latency")
    assert user.point("fares", new).serving_version == new


def test_a_version_must_be_better_than_the_one_that_serves_and_may_not_forget(served):
    user, old, new = served
    bound = pb.ForgettingBound(metric="general", most_loss=0.02)
    gate(user, least_improvement=0.1, forgetting=bound)
    measure(user, new, 0.85)
    with refused("GATE_NOT_PASSED") as failures:
        user.point("fares", new)
    assert not missing(failures[0].variables["found"], "accuracy", "0.1", "0.05", "0.85", "0.8")
    # 0.9 - 0.8 is a little less than 0.1 in binary.
    measure(user, new, 0.9)
    measure(user, new, 0.60, "general")
    with refused("GATE_NOT_PASSED") as failures:
        user.point("fares", new)
    assert not missing(failures[0].variables["found"], "serves has no evaluation of general")
    measure(user, old, 0.65, "general")
    with refused("GATE_NOT_PASSED") as failures:
        user.point("fares", new)
    assert not missing(failures[0].variables["found"], "general", "0.02", "0.05", "0.6", "0.65")
    measure(user, new, 0.64, "general")
    assert user.point("fares", new).serving_version == new


def test_a_first_version_has_nothing_to_be_better_than(stack: Stack, user: User):
    version = user.publish("fares").version
    stack.service().report("g1", user.tenant, version, "READY")
    gate(user, least_improvement=0.1)
    measure(user, version, 0.1)
    assert user.point("fares", version).serving_version == version


def test_a_gate_guards_the_alias_that_it_names_alone(served):
    user, _, new = served
    gate(user, alias="prod")
    assert user.point("fares", new, alias="stage").serving_version == new
    with refused("GATE_NOT_PASSED"):
        user.point("fares", new)


def test_going_back_needs_no_gate_unless_the_gate_says_so(served):
    user, old, new = served
    user.point("fares", new)
    gate(user, required_value=0.99)
    back = user.point("fares", old, rollback=True)
    assert (back.serving_version, back.previous_version) == (old, new)
    gate(user, "strict", required_value=0.99, checks_rollbacks=True)
    with refused("GATE_NOT_PASSED") as failures:
        user.point("fares", new, rollback=True)
    assert "gate strict" in failures[0].variables["found"]
    assert "gate good" not in failures[0].variables["found"]


def test_a_plain_move_to_what_served_before_is_gated_and_filed_as_what_it_was(served):
    user, old, new = served
    user.point("fares", new)
    user.point("fares", old, rollback=True)
    gate(user, required_value=0.9)
    with refused("GATE_NOT_PASSED") as failures:
        user.point("fares", new)
    assert not missing(failures[0].variables["found"], "gate good", "no evaluation of accuracy")
    assert user.alias("fares").serving_version == old
    measure(user, new, 0.95)
    user.point("fares", new)
    assert [move.kind for move in moves(user)] == [SET, REFUSED, ROLLBACK, SET, SET]


def test_a_rollback_leads_only_to_what_served_just_before(stack: Stack, served):
    user, old, new = served
    with refused("FIELD_INVALID") as failures:
        user.point("fares", new, rollback=True)
    assert not missing(failures[0].variables["problem"], "fares@prod", old)
    with refused("FIELD_INVALID") as failures:
        user.point("fares", new, alias="stage", rollback=True)
    assert "nothing before" in failures[0].variables["problem"]
    third = user.publish("fares").version
    stack.service().report("g1", user.tenant, third, "READY")
    user.point("fares", new)
    user.point("fares", third)
    gate(user, required_value=0.9)
    with refused("FIELD_INVALID"):
        user.point("fares", old, rollback=True)
    assert user.alias("fares").serving_version == third
    # While another target waits, what serves is where it goes back to.
    gate(user, "stage", alias="stage", required_value=0.99)
    measure(user, waiting := user.publish("fares").version, 0.95)
    assert user.point("fares", waiting).state == model_pb2.ALIAS_STATE_PENDING
    back = user.point("fares", third, rollback=True)
    assert (back.state, back.serving_version) == (model_pb2.ALIAS_STATE_SERVING, third)


def test_a_rollback_that_waits_to_be_loaded_is_still_one_when_it_serves(stack: Stack, served):
    user, old, new = served
    user.point("fares", new)
    gate(user, required_value=0.9)
    stack.service().report("g1", user.tenant, old, "LOADING")
    assert user.point("fares", old, rollback=True).state == model_pb2.ALIAS_STATE_PENDING
    (changed,) = stack.service().report("g1", user.tenant, old, "READY")
    assert (changed.state, changed.serving_version) == (model_pb2.ALIAS_STATE_SERVING, old)
    assert moves(user)[0].kind == ROLLBACK
    # Asked anew without the word, what waits is a plain move and has to pass.
    stack.service().report("g1", user.tenant, new, "LOADING")
    assert user.point("fares", new, rollback=True).state == model_pb2.ALIAS_STATE_PENDING
    measure(user, new, 0.95)
    assert user.point("fares", new).state == model_pb2.ALIAS_STATE_PENDING
    measure(user, new, 0.5)
    (changed,) = stack.service().report("g1", user.tenant, new, "READY")
    assert (changed.state, changed.serving_version) == (model_pb2.ALIAS_STATE_FAILED, old)


def test_under_an_alias_that_was_made_again_nothing_goes_back(served):
    user, old, new = served
    user.point("fares", new)
    user.api.DeleteAlias(pb.DeleteAliasRequest(model="fares", alias="prod"))
    gate(user, required_value=0.9)
    for version in (old, new):
        with refused("GATE_NOT_PASSED"):
            user.point("fares", version)
        with refused("FIELD_INVALID"):
            user.point("fares", version, rollback=True)
    measure(user, old, 0.95)
    user.point("fares", old)
    assert [move.kind for move in moves(user)] == [SET, REFUSED, REFUSED, DELETED, SET, SET]
    measure(user, new, 0.95)
    user.point("fares", new)
    measure(user, old, 0.5)
    user.point("fares", old, rollback=True)
    assert moves(user)[0].kind == ROLLBACK


def test_what_was_measured_while_a_target_was_loaded_is_asked_again_when_it_would_serve(stack: Stack, user: User):
    old, new = user.publish("fares").version, user.publish("fares").version
    stack.service().report("g1", user.tenant, old, "READY")
    user.point("fares", old)
    gate(user, required_value=0.9)
    measure(user, new, 0.95)
    assert user.point("fares", new).state == model_pb2.ALIAS_STATE_PENDING
    measure(user, new, 0.5)
    (changed,) = stack.service().report("g1", user.tenant, new, "READY")
    assert (changed.state, changed.serving_version) == (model_pb2.ALIAS_STATE_FAILED, old)
    assert not missing(changed.reason, "gate good", "accuracy", "0.9", "0.5")
    assert [move.kind for move in moves(user)] == [REFUSED, SET]


def test_moves_and_refusals_say_who_when_from_to_and_why(served):
    user, old, new = served
    user.point("fares", new, reason="fewer wrong fares")
    gate(user, required_value=0.9, checks_rollbacks=True)
    with refused("GATE_NOT_PASSED"):
        user.point("fares", old, reason="the new one is slow", rollback=True)
    user.api.DeleteGate(pb.DeleteGateRequest(model="fares", gate="good"))
    user.point("fares", old, reason="the new one is slow", rollback=True)
    back, refusal, forth, first = moves(user)
    assert [move.number for move in (first, forth, refusal, back)] == [1, 2, 3, 4]
    assert [(move.kind, move.from_version, move.to_version) for move in (first, forth, refusal, back)] == [
        (SET, "", old), (SET, old, new), (REFUSED, new, old), (ROLLBACK, new, old),
    ]  # fmt: skip
    assert (forth.reason, refusal.reason, back.reason) == ("fewer wrong fares", *["the new one is slow"] * 2)
    assert "found 0.8" in refusal.detail
    assert all(move.principal and move.create_time.seconds for move in moves(user))


def test_a_repeated_request_that_is_refused_again_is_one_refusal(served):
    user, old, new = served
    gate(user, required_value=0.9)
    measure(user, new, 0.85)
    request_id = str(uuid.uuid4())
    for _ in range(3):
        with refused("GATE_NOT_PASSED"):
            user.point("fares", new, request_id=request_id)
    assert [(move.kind, move.to_version) for move in moves(user)] == [(REFUSED, new), (SET, old)]
    # Another wish is another refusal, whatever its id; a refusal is no answer, so the id is good for one.
    with refused("GATE_NOT_PASSED"):
        user.point("fares", new, request_id=request_id, reason="it is better by hand")
    with refused("GATE_NOT_PASSED"):
        user.point("fares", new)
    assert [move.kind for move in moves(user)] == [REFUSED, REFUSED, REFUSED, SET]
    measure(user, new, 0.95)
    assert user.point("fares", new, request_id=request_id).serving_version == new
    assert [move.kind for move in moves(user)] == [SET, REFUSED, REFUSED, REFUSED, SET]


def test_a_refused_move_changes_nothing(served):
    user, _, new = served
    gate(user)
    before = user.alias("fares")
    with refused("GATE_NOT_PASSED"):
        user.point("fares", new, etag=before.etag)
    assert user.alias("fares") == before
    with refused("GATE_NOT_PASSED"):
        user.point("fares", new, alias="stage", etag="new")
    with refused("ALIAS_NOT_FOUND"):
        user.alias("fares", "stage")


def test_gates_are_kept_listed_and_deleted(user: User):
    user.publish("fares")
    bound = pb.ForgettingBound(metric="general", direction=pb.METRIC_DIRECTION_LOWER, most_loss=0.5)
    request = pb.CreateGateRequest(
        model="fares", gate=pb.Gate(gate="b", metric="loss", required_value=0.0, forgetting=bound, alias="prod")
    )
    request.request_id = str(uuid.uuid4())
    made = user.api.CreateGate(request).gate
    assert user.api.CreateGate(request).gate == made
    assert (made.required_value, made.HasField("required_value"), made.HasField("least_improvement")) == (
        0,
        True,
        False,
    )
    gate(user, "a", threshold=0.25)
    listed = user.api.ListGates(pb.ListGatesRequest(model="fares")).gates
    assert [item.gate for item in listed] == ["a", "b"]
    assert (listed[0].required_value, listed[1]) == (0.25, made)
    with refused("GATE_EXISTS"):
        gate(user, "a")
    for name, metric in (("", "accuracy"), ("Bad name", "accuracy"), ("c", "")):
        with refused("FIELD_INVALID"):
            gate(user, name, metric=metric)
    with refused("REQUEST_INVALID"):
        gate(user, "c", required_value=float("nan"))
    with refused("MODEL_NOT_FOUND"):
        gate(user, model="nothing")
    user.api.DeleteGate(pb.DeleteGateRequest(model="fares", gate="a"))
    with refused("GATE_NOT_FOUND"):
        user.api.DeleteGate(pb.DeleteGateRequest(model="fares", gate="a"))
