"""Blocking work off the event loop, with a bound on how much of it may wait.

Invariant: nothing that blocks (disk, tokeniser, model) runs in the loop.  A queue
that nobody bounds turns overload into collapse, so beyond ``waiting`` entries a
call is refused with a retry hint.
"""

import asyncio
import contextvars
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from services.chassis.errors import Failure, Reason

T = TypeVar("T")


class Executor:
    """A pool of threads for one kind of work."""

    def __init__(self, threads: int, *, name: str, waiting: int = 1024) -> None:
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix=name)
        self._limit = threads + waiting
        self._held = 0

    async def run(self, function: Callable[..., T], /, *arguments: object, **named: object) -> T:
        """Run ``function`` in a thread, with the caller's context.  Raises OVERLOADED.

        A cancelled caller stops waiting; the function itself runs to its end.
        """
        if self._held >= self._limit:
            raise Failure(Reason.OVERLOADED, retry_after_seconds=1.0, limit=self._limit)
        context = contextvars.copy_context()
        work = functools.partial(context.run, function, *arguments, **named)
        self._held += 1
        future = self._pool.submit(work)
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda _: _from_thread(loop, self._release))
        return await asyncio.wrap_future(future)

    def _release(self) -> None:
        self._held -= 1

    def close(self) -> None:
        """Let running work finish and drop what has not begun.  Blocks."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _from_thread(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(function)
