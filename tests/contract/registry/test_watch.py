"""A watch tells every change once, in order, also after it broke off."""

import contextlib
import queue
import threading
from pathlib import Path

import grpc
import pytest
from trivium.registry.v1 import model_pb2
from trivium.registry.v1 import registry_pb2 as pb

from tests.stack import Stack, User, refused, registry_over
from tests.worlds import BUCKET

CREATED, TARGETED, FLIPPED, FAILED = (
    model_pb2.EVENT_KIND_VERSION_CREATED,
    model_pb2.EVENT_KIND_ALIAS_TARGETED,
    model_pb2.EVENT_KIND_ALIAS_FLIPPED,
    model_pb2.EVENT_KIND_ALIAS_FAILED,
)


def test_what_was_comes_first_then_a_sign_that_it_is_all(stack: Stack, user: User):
    version = user.publish("fares").version
    user.point("fares", version)
    stack.service().report("g1", user.tenant, version, "READY")
    events = user.events_so_far()
    assert [event.kind for event in events] == [CREATED, TARGETED, FLIPPED]
    assert [event.sequence for event in events] == [1, 2, 3]
    assert {event.version for event in events} == {version}
    assert events[1].alias.state == model_pb2.ALIAS_STATE_PENDING
    assert events[2].alias == user.alias("fares")


def test_a_failure_and_the_deletions_are_told(stack: Stack, user: User):
    version = user.publish("fares").version
    user.point("fares", version)
    stack.service().report("g1", user.tenant, version, "FAILED", "full")
    user.api.DeleteAlias(pb.DeleteAliasRequest(model="fares", alias="prod"))
    user.api.DeleteVersion(pb.DeleteVersionRequest(model="fares", version=version))
    events = user.events_so_far()
    assert [event.kind for event in events[2:]] == [
        FAILED, model_pb2.EVENT_KIND_ALIAS_DELETED, model_pb2.EVENT_KIND_VERSION_DELETED,
    ]  # fmt: skip
    assert "full" in events[2].alias.reason


def test_a_change_reaches_a_waiting_watcher(user: User):
    heard: queue.Queue[model_pb2.Event] = queue.Queue()
    caught_up = threading.Event()
    stream = user.watch()

    def listen():
        # The cancellation below ends the stream with an error.
        with contextlib.suppress(grpc.RpcError):
            for message in stream:
                if message.HasField("event"):
                    heard.put(message.event)
                if message.caught_up:
                    caught_up.set()

    threading.Thread(target=listen, daemon=True).start()
    assert caught_up.wait(120)
    version = user.publish("fares").version
    assert heard.get(timeout=120).version == version
    stream.cancel()


@pytest.mark.parametrize("stack", [BUCKET], indirect=True)
def test_a_change_at_one_replica_reaches_a_watcher_at_another_at_once(stack: Stack, user: User, tmp_path: Path):
    # Long before the time of a sign of life, when it would look by itself.
    other = stack.replica(tmp_path / "other", {"TRIVIUM_REGISTRY_SIGN_OF_LIFE_SECONDS": "3600"})
    try:
        with grpc.insecure_channel(other.address) as channel:
            watcher = User(registry_over(channel, stack.tenant_key(user.tenant)), user.tenant)
            stream = watcher.watch()
            assert next(stream).caught_up
            for _ in range(2):
                version = user.publish("fares").version
                assert next(stream).event.version == version
            stream.cancel()
    finally:
        other.stop()


def test_what_others_do_is_not_hinted_at(stack: Stack, tmp_path: Path):
    alone = Stack(tmp_path / "alone", {"TRIVIUM_REGISTRY_SIGN_OF_LIFE_SECONDS": "3600"}, beside=stack)
    try:
        user = alone.newcomer()
        stream = user.watch()
        assert next(stream).caught_up
        alone.newcomer().publish("fares")
        version = user.publish("fares").version
        # Nothing came between, not even an empty message.
        assert next(stream).event.version == version
        stream.cancel()
    finally:
        alone.close()


@pytest.mark.parametrize("role", ["tenant", "service"])
def test_a_watch_that_breaks_off_resumes_without_gap_or_duplicate(stack: Stack, user: User, role: str):
    watcher = user if role == "tenant" else stack.service()
    start = max([event.sequence for event in watcher.events_so_far()], default=0)
    total, writers = 24, 3
    versions = [user.publish("fares").version for _ in range(2)]

    def write():
        for number in range(total // writers):
            user.point("fares", versions[number % 2], alias=f"a{threading.get_ident() % 1000}")

    threads = [threading.Thread(target=write) for _ in range(writers)]
    for thread in threads:
        thread.start()
    seen: list[int] = []
    while len(seen) < total + 2:
        stream = watcher.watch(max(seen, default=start))
        for count, message in enumerate(stream):
            if message.HasField("event"):
                seen.append(message.event.sequence)
            # Break off again and again, in the middle.
            if count >= 4 or len(seen) == total + 2:
                break
        stream.cancel()
    for thread in threads:
        thread.join()
    assert seen == list(range(start + 1, start + 1 + total + 2))


def test_a_number_that_was_never_reached_is_refused(user: User):
    user.publish("fares")
    with refused("CURSOR_UNKNOWN") as failures:
        list(user.watch(1000))
    assert failures[0].variables["newest"] == "1"


def test_a_quiet_watch_gives_signs_of_life(stack: Stack, tmp_path):
    quiet = Stack(tmp_path / "quiet", {"TRIVIUM_REGISTRY_SIGN_OF_LIFE_SECONDS": "0.1"}, beside=stack)
    try:
        stream = quiet.newcomer().watch()
        messages = [next(stream) for _ in range(3)]
        assert [message.caught_up for message in messages] == [True, False, False]
        assert not any(message.HasField("event") for message in messages)
        stream.cancel()
    finally:
        quiet.close()
