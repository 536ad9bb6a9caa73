"""A full server refuses at the door, in its own words, whoever asks and whatever it would cost to know."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from services.chassis.errors import Failure, Reason
from services.chassis.interceptors import admission
from services.chassis.interceptors.admission import AdmissionLayer
from services.chassis.interceptors.handler import answer_stream
from tests.harness.timeouts import HANG_SECONDS


async def test_calls_that_wait_for_access_fill_the_server_too_and_the_next_is_not_asked_who_it_is():
    settings: Any = SimpleNamespace(max_calls=2)
    door = AdmissionLayer(settings).at_the_door
    asked: list[str] = []
    answers = asyncio.Event()

    async def authenticate(call: Any) -> None:
        asked.append(call)
        await answers.wait()

    calls: list[Any] = ["first", "second", "third"]
    waiting = [asyncio.create_task(door(authenticate, call)) for call in calls[:2]]
    await asyncio.sleep(0)
    with pytest.raises(Failure) as refused:
        await door(authenticate, calls[2])
    assert (refused.value.reason, refused.value.retry_after_seconds) == (Reason.OVERLOADED, 1.0)
    assert asked == calls[:2]
    answers.set()
    await asyncio.gather(*waiting)
    await door(authenticate, calls[2])


class Stream:
    """A watch whose first message gRPC has not accepted yet; `taken` accepts it."""

    def __init__(self) -> None:
        self.writes, self.taken = asyncio.Event(), asyncio.Event()
        self.written = 0
        settings: Any = SimpleNamespace(max_streams_per_tenant=1)
        self.layer = AdmissionLayer(settings)
        policy = SimpleNamespace(long_lived=True)
        method = SimpleNamespace(
            behaviour=self._responses, serialize=bytes, streams=True, over_grpc=True, policy=policy
        )
        call: Any = SimpleNamespace(
            method=method, request=None, rpc=self, identity=None, is_writing=False, after_write=None
        )
        self.served = asyncio.create_task(self.layer(answer_stream, call))

    async def _responses(self, request: object, rpc: object) -> AsyncIterator[bytes]:
        while True:
            yield b"event"

    async def write(self, body: bytes) -> None:
        self.writes.set()
        await self.taken.wait()
        self.written += 1


async def test_a_watch_that_writes_a_message_is_ended_behind_it_for_grpc_takes_no_status_before(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(admission, "_WRITE_SECONDS", HANG_SECONDS)
    stream = Stream()
    await stream.writes.wait()
    stream.layer.drain()
    await asyncio.sleep(0)
    assert not stream.served.done()
    stream.taken.set()
    with pytest.raises(Failure) as refused:
        await stream.served
    assert (refused.value.reason, stream.written) == (Reason.DRAINING, 1)
    assert await stream.layer.emptied(0)


async def test_a_watch_whose_caller_reads_nothing_does_not_hold_up_the_drain(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(admission, "_WRITE_SECONDS", 0.0)
    stream = Stream()
    await stream.writes.wait()
    stream.layer.drain()
    with pytest.raises(Failure) as refused:
        await stream.served
    assert (refused.value.reason, stream.written) == (Reason.DRAINING, 0)
