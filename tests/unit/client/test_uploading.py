"""A file that is sent while its server refuses it."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest
from trivium_client.errors import InvalidRequestError
from trivium_client.transport import Transport, upload

PLACE = cast("Transport", SimpleNamespace(connection=SimpleNamespace(addresses={"retriever": "here:1"}, metadata=())))


class Refusing:
    """A stream that its server refuses on its header, 0.1 s later; a frame sent meanwhile loses what it said.

    So does grpc.aio's: a write that fails sets the status of the call.
    """

    def __init__(self) -> None:
        self.frames = 0
        self._lost = False
        self._ended = asyncio.Event()
        self._callbacks: list[Callable[[object], None]] = []

    def add_done_callback(self, callback: Callable[[object], None]) -> None:
        self._callbacks.append(callback)

    def done(self) -> bool:
        return self._ended.is_set()

    async def write(self, frame: object) -> None:
        self.frames += 1
        if self.frames == 1:
            asyncio.get_running_loop().call_later(0.1, self._end)
        elif not self.done():
            self._lost = True
            await self._ended.wait()
            raise asyncio.InvalidStateError("the call is over")

    async def done_writing(self) -> None:
        pass

    def __await__(self) -> Any:
        return self._status().__await__()

    async def _status(self) -> None:
        await self._ended.wait()
        code = grpc.StatusCode.INTERNAL if self._lost else grpc.StatusCode.INVALID_ARGUMENT
        raise grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), "too large")

    def _end(self) -> None:
        self._ended.set()
        for callback in self._callbacks:
            callback(self)


async def test_a_refusal_that_was_lost_to_the_bytes_behind_it_is_heard_the_next_time(tmp_path: Path) -> None:
    path = tmp_path / "large.md"
    path.write_text("word " * 1000)
    calls: list[Refusing] = []

    def send(**_: object) -> Refusing:
        calls.append(Refusing())
        return calls[-1]

    async def nothing(_: str) -> int:
        return 0

    with pytest.raises(InvalidRequestError):
        await upload(PLACE, "retriever", path, send=send, committed=nothing, frame=lambda part: part)
    assert [call.frames for call in calls] == [2, 1]
