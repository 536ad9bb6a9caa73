"""Places, deadlines and idle limits are the same over both transports: each case runs over the one and the other."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
import pytest
import pytest_asyncio

from gateway.http.waiting import EXPECTED_MS
from tests.conformance.holding import Doors, Holding, held
from tests.conformance.tables.limits import ANSWERED, LIMITS, PLACES, US, AsyncGrpc, AsyncHttp, Place, stalled
from tests.harness.timeouts import HANG_SECONDS

pytestmark = pytest.mark.asyncio(loop_scope="module")
both = pytest.mark.parametrize("transport", ["grpc", "http"])
# Longer than any test here, and as long as one that fails.
_LONG = 30.0


@dataclass(frozen=True, slots=True)
class Used:
    """The doors, and who uses one of them."""

    doors: Doors
    channel: grpc.aio.Channel
    client: httpx.AsyncClient

    def by(self, transport: str, tenant: str = US) -> AsyncGrpc | AsyncHttp:
        """Return one of the transports, for somebody of a tenant."""
        key = f"key-of-{tenant}"
        return AsyncGrpc(self.channel, key) if transport == "grpc" else AsyncHttp(self.client, key)

    @asynccontextmanager
    async def anew(self) -> AsyncIterator[Holding]:
        """What is behind them, holding whatever comes, and with nobody inside before and after."""
        behind = self.doors.behind
        behind.hold()
        await behind.until(0)
        yield behind
        behind.let_go()
        await behind.until(0)


def served(**limits: Any) -> Any:
    """A fixture: doors with these limits, for all tests of the module that want such."""

    @pytest_asyncio.fixture(scope="module", loop_scope="module")
    async def used(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Used]:
        async with (
            held(tmp_path_factory.mktemp("doors"), **limits) as doors,
            grpc.aio.insecure_channel(doors.grpc) as channel,
            httpx.AsyncClient(base_url=f"http://{doors.http}", timeout=_LONG) as client,
        ):
            yield Used(doors, channel, client)

    return used


narrow = served(**LIMITS)
hurried = served(default_unary_seconds=0.1, max_unary_seconds=0.2)
waiting = served(default_unary_seconds=0.1, max_unary_seconds=60.0)
idle = served(**LIMITS, stream_idle_seconds=0.1)


async def in_time(ask: Callable[[], Awaitable[str]], late: str) -> str:
    """What is told to who asks until it is not late: a machine that does much else may stop for longer than a call may last."""
    async with asyncio.timeout(HANG_SECONDS):
        while (told := await ask()) == late:
            pass
    return told


@both
@pytest.mark.parametrize("case", PLACES, ids=lambda case: case.name)
async def test_a_place_is_a_place_over_both_transports(narrow: Used, transport: str, case: Place) -> None:
    async with narrow.anew() as behind, asyncio.TaskGroup() as group:
        inside = [group.create_task(narrow.by(transport).send(call)) for call in case.inside]
        await behind.until(len(inside))
        further = group.create_task(narrow.by(transport, case.tenant).send(case.call))
        if case.end == ANSWERED:
            await behind.until(len(inside) + 1)
            behind.let_go()
        assert await further == case.end
        behind.let_go()
        for task, call in zip(inside, case.inside, strict=True):
            if call == "stalled_upload":
                task.cancel()
            else:
                assert await task == ANSWERED


@both
async def test_a_call_has_its_kinds_time_and_what_generates_or_embeds_a_longer_one(
    hurried: Used, transport: str
) -> None:
    by = hurried.by(transport)
    async with hurried.anew() as behind, asyncio.TaskGroup() as group:
        longer = [group.create_task(by.send(call)) for call in ("chat", "whole_chat", "embed", "download")]
        await behind.until(len(longer))
        assert await by.send("batch") == "deadline_exceeded"
        # Who says that it waits for longer is given no more than anybody may have.
        assert await by.send("batch", waits=60) == "deadline_exceeded"
        await behind.until(len(longer))
        behind.let_go()
        assert [await task for task in longer] == [ANSWERED] * len(longer)
        assert await in_time(lambda: by.send("batch", waits=60), late="deadline_exceeded") == ANSWERED


@both
async def test_who_says_how_long_it_waits_has_that_time(waiting: Used, transport: str) -> None:
    by = waiting.by(transport)
    async with waiting.anew() as behind, asyncio.TaskGroup() as group:
        patient = group.create_task(by.send("batch", waits=_LONG))
        await behind.until(1)
        assert await by.send("batch") == "deadline_exceeded"
        began = time.monotonic()
        # gRPC's own client ends by itself what came too late, without a reason of ours.
        assert await by.send("batch", waits=0.05) in ("", "deadline_exceeded")
        assert time.monotonic() - began < _LONG
        behind.let_go()
        assert await patient == ANSWERED


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_chat_over_http_ends_when_nobody_waits_for_it_any_more(waiting: Used, stream: bool) -> None:
    body = {"model": "base", "messages": [{"role": "user", "content": "Hello"}], "stream": stream}
    headers = {"authorization": f"Bearer key-of-{US}", EXPECTED_MS: "50"}
    async with waiting.anew() as behind:
        answer = await waiting.client.post("/v1/chat/completions", json=body, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline_exceeded")
        await behind.until(0)


@both
async def test_an_upload_of_which_nothing_comes_ends_and_gives_its_place_back(idle: Used, transport: str) -> None:
    async with idle.anew():
        assert await idle.by(transport).send("stalled_upload") == "request_stream_idle"
        assert await in_time(lambda: idle.by(transport).send("upload"), late="request_stream_idle") == ANSWERED


async def test_the_end_of_an_idle_upload_has_http_s_own_number_and_the_connection_ends(idle: Used) -> None:
    headers = {"authorization": "Bearer key-of-acme", "content-type": "multipart/form-data; boundary=b"}
    request = httpx.Request("POST", f"http://{idle.doors.http}/v1/files", headers=headers, content=b"x" * 9)
    answer = await stalled(request, b"--b")
    assert (answer.status_code, answer.headers["connection"]) == (408, "close")
    message = "Nothing came for 0.1 s of what was being sent, so it was given up. Send it again."
    assert answer.json()["error"]["message"] == message
