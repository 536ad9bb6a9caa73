"""What a call fails with, whose status grpc.aio sets more than once."""

from collections.abc import Callable, Generator
from typing import Any

import grpc
import pytest

from services.chassis.refused_streams import Streamed

SAID, LOST = (("reason", "said"),), ()


class Call:
    """Ends with one status after another, and fails with the last."""

    def __init__(self, *statuses: tuple[grpc.StatusCode, Any]) -> None:
        self._statuses = statuses

    def add_done_callback(self, done: Callable[["Call"], None]) -> None:
        for code, trailing in self._statuses:
            self._code, self._trailing = code, trailing
            done(self)

    async def code(self) -> grpc.StatusCode:
        return self._code

    async def trailing_metadata(self) -> Any:
        return self._trailing

    async def initial_metadata(self) -> Any:
        return ()

    async def details(self) -> str:
        return ""

    async def debug_error_string(self) -> str:
        return ""

    def __await__(self) -> Generator[Any, None, Any]:
        yield from ()
        raise grpc.aio.AioRpcError(self._code, grpc.aio.Metadata(), self._trailing, "")


@pytest.mark.parametrize("first", [grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INTERNAL])
async def test_what_a_server_said_first_is_what_the_call_fails_with(first: grpc.StatusCode) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await Streamed(Call((first, SAID), (grpc.StatusCode.INTERNAL, LOST)))
    assert (error.value.code(), error.value.trailing_metadata()) == (first, SAID)


async def test_a_success_is_nothing_to_fail_with() -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await Streamed(Call((grpc.StatusCode.OK, SAID), (grpc.StatusCode.INTERNAL, LOST)))
    assert error.value.code() is grpc.StatusCode.INTERNAL
