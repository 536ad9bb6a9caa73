"""A canary gets its share once it is ready, keeps its callers, and leaves with what it belongs to."""

import itertools
import threading
import uuid
from collections import Counter
from typing import Any

import grpc
import pytest
from trivium.registry.v1 import model_pb2
from trivium.registry.v1 import registry_pb2 as pb

from services.chassis.status import from_rpc_error
from services.registry.shares import BUCKETS, bucket_of
from tests.harness.wording import missing
from tests.stack import Stack, User, refused

SERVING, PENDING, FAILED = (
    model_pb2.CANARY_STATE_SERVING,
    model_pb2.CANARY_STATE_PENDING,
    model_pb2.CANARY_STATE_FAILED,
)


def share(user: User, version: str, percent: int, **fields: Any) -> Any:
    request = pb.SetCanaryRequest(model="fares", alias="prod", version=version, percent=percent, **fields)
    return user.api.SetCanary(request).alias


def who_gets(user: User, name: str = "fares") -> dict[str, str]:
    """The version of a hundred callers, one of each bucket of the alias "prod", so that chance has no part."""
    keys: dict[int, str] = {}
    for number in itertools.count():
        keys.setdefault(bucket_of(user.tenant, "fares", "prod", f"caller-{number}"), f"caller-{number}")
        if len(keys) == BUCKETS:
            break
    answers = {key: user.api.ResolveModel(pb.ResolveModelRequest(name=name, sticky_key=key)) for key in keys.values()}
    return {key: answer.version for key, answer in answers.items()}


def states(alias: model_pb2.Alias) -> list[tuple[str, int, Any]]:
    return [(canary.version, canary.percent, canary.state) for canary in alias.canaries]


@pytest.fixture
def three(stack: Stack, user: User) -> tuple[User, list[str]]:
    """Three versions that a generator holds; the first serves."""
    versions = [user.publish("fares").version for _ in range(3)]
    for version in versions:
        stack.service().report("g1", user.tenant, version, "READY")
    user.point("fares", versions[0])
    return user, versions


def test_a_canary_gets_nothing_before_a_generator_is_ready_for_it(stack: Stack, user: User):
    old, new = user.publish("fares").version, user.publish("fares").version
    stack.service().report("g1", user.tenant, old, "READY")
    user.point("fares", old)
    alias = share(user, new, 100)
    assert states(alias) == [(new, 100, PENDING)]
    assert not missing(alias.canaries[0].reason, "0 of 1")
    assert set(who_gets(user).values()) == {old}
    (changed,) = stack.service().report("g1", user.tenant, new, "READY")
    assert states(changed) == [(new, 100, SERVING)]
    assert [word.generator for word in changed.canaries[0].readiness] == ["g1"]
    assert changed.serving_version == old
    answer = user.api.ResolveModel(pb.ResolveModelRequest(name="fares", sticky_key="a"))
    assert (answer.version, answer.canary, answer.alias, answer.number) == (new, True, "prod", 2)


def test_a_canary_that_fails_gets_nothing_until_it_is_set_again(stack: Stack, user: User):
    old, new = user.publish("fares").version, user.publish("fares").version
    stack.service().report("g1", user.tenant, old, "READY")
    user.point("fares", old)
    share(user, new, 100)
    (changed,) = stack.service().report("g1", user.tenant, new, "FAILED", "no room")
    assert states(changed) == [(new, 100, FAILED)]
    assert "no room" in changed.canaries[0].reason
    stack.service().report("g1", user.tenant, new, "READY")
    assert set(who_gets(user).values()) == {old}
    assert states(share(user, new, 100)) == [(new, 100, SERVING)]
    assert set(who_gets(user).values()) == {new}


def test_raising_a_share_moves_only_callers_that_must_move(three):
    user, (serving, one, two) = three
    share(user, one, 10)
    share(user, two, 10)
    before = who_gets(user)
    assert Counter(before.values()) == {serving: 80, one: 10, two: 10}
    share(user, one, 60)
    after = who_gets(user)
    assert Counter(after.values()) == {serving: 30, one: 60, two: 10}
    for key in before:
        # Whoever had a canary keeps it; whoever moved, moved to the one that grew.
        assert after[key] == before[key] or (before[key], after[key]) == (serving, one)
    share(user, one, 10)
    assert who_gets(user) == before


def test_without_a_key_each_request_is_drawn(three):
    user, (serving, one, _) = three
    share(user, one, 50)
    # 60 draws that all fall on one side: once in 2 ** 59.
    assert {user.resolve("fares").version for _ in range(60)} == {serving, one}
    assert user.resolve(f"fares@{serving}").version == serving


def test_a_key_means_something_else_under_another_alias(three):
    user, (serving, one, _) = three
    user.point("fares", serving, alias="stage")
    for alias in ("prod", "stage"):
        request = pb.SetCanaryRequest(model="fares", alias=alias, version=one, percent=50)
        user.api.SetCanary(request)
    assert who_gets(user, "fares@prod") != who_gets(user, "fares@stage")


def test_shares_that_do_not_fit_are_refused_with_what_is_left(three):
    user, (serving, one, two) = three
    share(user, one, 70)
    with refused("FIELD_INVALID") as failures:
        share(user, two, 31)
    assert "30 are left" in failures[0].message
    with refused("FIELD_INVALID"):
        share(user, serving, 10)
    with refused("REQUEST_INVALID"):
        share(user, two, 101)
    with refused("VERSION_NOT_FOUND"):
        share(user, "77", 10)
    with refused("ETAG_MISMATCH"):
        share(user, two, 10, etag="0")
    assert len(share(user, two, 30, etag=user.alias("fares").etag).canaries) == 2
    with refused("ALIAS_NOT_FOUND"):
        user.api.SetCanary(pb.SetCanaryRequest(model="fares", alias="none", version=one, percent=1))


def test_a_canary_needs_something_to_stand_beside(user: User):
    version, other = user.publish("fares").version, user.publish("fares").version
    user.point("fares", version)
    with refused("ALIAS_NOT_SERVING"):
        share(user, other, 10)


def test_a_canary_that_becomes_the_serving_version_is_none_any_more_and_others_stay(three):
    user, (serving, one, two) = three
    share(user, one, 20)
    share(user, two, 30)
    moved = user.point("fares", one)
    assert (moved.serving_version, moved.previous_version) == (one, serving)
    assert states(moved) == [(two, 30, SERVING)]


def test_ending_a_canary_and_deleting_the_alias_set_its_version_free(three):
    user, (_, one, two) = three
    share(user, one, 20)
    share(user, two, 20)
    with refused("VERSION_IN_USE") as failures:
        user.api.DeleteVersion(pb.DeleteVersionRequest(model="fares", version=one, force=True))
    assert not missing(failures[0].variables["user"], "fares@prod", "canary")
    assert "`trivium models canary fares@prod 2 0`" in failures[0].variables["remedy"]
    assert states(share(user, one, 0)) == [(two, 20, SERVING)]
    user.api.DeleteVersion(pb.DeleteVersionRequest(model="fares", version=one, force=True))
    user.api.DeleteAlias(pb.DeleteAliasRequest(model="fares", alias="prod"))
    user.api.DeleteVersion(pb.DeleteVersionRequest(model="fares", version=two, force=True))


def test_each_change_of_a_share_is_a_move_and_an_event(stack: Stack, three):
    user, (serving, one, _) = three
    start = len(user.events_so_far())
    share(user, one, 20, reason="try it")
    share(user, one, 20, reason="nothing changes")
    share(user, one, 0)
    share(user, one, 0)
    kind = model_pb2.EVENT_KIND_ALIAS_CANARY_CHANGED
    events = user.events_so_far()[start:]
    assert [(event.kind, event.version, len(event.alias.canaries)) for event in events] == [
        (kind, one, 1),
        (kind, one, 0),
    ]
    ended, begun, _ = user.api.ListAliasMoves(pb.ListAliasMovesRequest(model="fares", alias="prod")).moves
    assert (begun.kind, begun.from_version, begun.to_version) == (model_pb2.ALIAS_MOVE_KIND_CANARY, serving, one)
    assert (begun.percent, begun.reason, ended.percent) == (20, "try it", 0)
    # A share is no reign: going to what was only a canary is no rollback.
    user.point("fares", one)
    newest = user.api.ListAliasMoves(pb.ListAliasMovesRequest(model="fares", alias="prod")).moves[0]
    assert newest.kind == model_pb2.ALIAS_MOVE_KIND_SET


def test_racing_shares_never_exceed_the_whole(stack: Stack, user: User):
    versions = [user.publish("fares").version for _ in range(7)]
    stack.service().report("g1", user.tenant, versions[0], "READY")
    user.point("fares", versions[0])
    start, refusals = threading.Barrier(6), []

    def grab(version: str) -> None:
        start.wait()
        try:
            share(user, version, 30)
        except grpc.RpcError as error:
            refusals.append(from_rpc_error(error).reason)

    threads = [threading.Thread(target=grab, args=(version,)) for version in versions[1:]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refusals == ["FIELD_INVALID"] * 3
    assert sum(canary.percent for canary in user.alias("fares").canaries) == 90


def test_a_repeated_request_id_sets_a_share_once(three):
    user, (_, one, _) = three
    request_id = str(uuid.uuid4())
    first = share(user, one, 20, request_id=request_id)
    share(user, one, 0)
    assert share(user, one, 20, request_id=request_id) == first
    assert not user.alias("fares").canaries
