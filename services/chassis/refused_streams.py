"""Calls whose requests are a stream, and the status that grpc.aio loses.

A server that refuses a stream before its end has said why; a write that is under way then fails, and grpc.aio sets the
status once more, to INTERNAL without a word of the server's (https://github.com/grpc/grpc/issues/36066): of calls that are
refused at one of their first requests in a hundredth where one answer is expected, and in most where several are.
Invariant: a call fails with what the server said.
"""

from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from typing import Any, TypeVar

import grpc

T = TypeVar("T")


def streamed(start: Callable[..., Any]) -> "Callable[..., Streamed]":
    """What starts a call of ``stream_unary`` or ``stream_stream``, with nothing lost."""
    return lambda *arguments, **named: Streamed(start(*arguments, **named))


class Streamed:
    """A call that is awaited or iterated over; in all else as grpc.aio gives it."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._said: grpc.aio.AioRpcError | None = None
        # Called each time that a status is set, the first time before it can be lost.
        call.add_done_callback(self._keep)

    def _keep(self, call: Any) -> None:
        error = grpc.aio.AioRpcError(
            _there(call.code()),
            _there(call.initial_metadata()),
            _there(call.trailing_metadata()),
            _there(call.details()),
            _there(call.debug_error_string()),
        )
        # A success is nothing to fail with: what is set after it stands.
        if error.code() is not grpc.StatusCode.OK and not _lost(error):
            self._said = error

    def _told(self, error: grpc.aio.AioRpcError) -> grpc.aio.AioRpcError:
        return self._said if self._said is not None and _lost(error) else error

    def __await__(self) -> Generator[Any, None, Any]:
        try:
            return (yield from self._call.__await__())
        except grpc.aio.AioRpcError as error:
            raise self._told(error) from None

    async def __aiter__(self) -> AsyncIterator[Any]:
        try:
            async for answer in self._call:
                yield answer
        except grpc.aio.AioRpcError as error:
            raise self._told(error) from None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


def _lost(error: grpc.aio.AioRpcError) -> bool:
    """Whether it is grpc.aio's own: whatever a server of the suite fails with has trailing metadata."""
    return error.code() is grpc.StatusCode.INTERNAL and not error.trailing_metadata()


def _there(value: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that has nothing to wait for."""
    try:
        value.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError("the call has ended, and does not know how")
