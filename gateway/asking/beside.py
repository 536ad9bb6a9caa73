"""Work that stages of an answer do at once."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from services.chassis.errors import Failure

One = TypeVar("One")
Other = TypeVar("Other")


class Aside:
    """Work that nobody waits for while it is useful."""

    def __init__(self) -> None:
        self.tasks: list[asyncio.Task[None]] = []

    def start(self, work: Coroutine[None, None, None]) -> None:
        """Run it beside the rest; whether it fails is told by whoever needs it."""

        async def quietly() -> None:
            with suppress(Failure):
                await work

        self.tasks.append(asyncio.create_task(quietly()))


@asynccontextmanager
async def aside() -> AsyncIterator[Aside]:
    """Work beside the block, which is given up when the block ends."""
    running = Aside()
    try:
        yield running
    finally:
        for task in running.tasks:
            task.cancel()


async def both(one: Coroutine[None, None, One], other: Coroutine[None, None, Other]) -> tuple[One, Other]:
    """Both at once; a failure of the first ends the other.

    Where both fail that of the first is raised, whichever came sooner: what is refused is refused for the same thing each
    time it is asked.
    """
    first, second = asyncio.create_task(one), asyncio.create_task(other)
    try:
        return await first, await second
    finally:
        first.cancel()
        second.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
