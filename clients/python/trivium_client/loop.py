"""An event loop in a thread, so that the asynchronous SDK can be called from code that is not.

Invariant: nothing is left in the loop when `stop` returns, and nobody waits for what came in afterwards.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Collection, Coroutine, Generator, Mapping
from typing import Any, TypeVar

T = TypeVar("T")

# gRPC reads how a cancelled call ended in a task of its own, within milliseconds; more than this it is not waited for.
_GRACE_SECONDS = 1.0


class ClosedError(RuntimeError):
    """The client was closed before the call."""


def report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Report an error that occurred in no task, except for a wake-up by gRPC that another loop has served.

    gRPC wakes every event loop of the process that uses it, and all but the first find nothing to read. A program with a
    loop of its own beside a client would log a traceback for each message.
    """
    if not is_served_wakeup(context):
        loop.default_exception_handler(context)


def is_served_wakeup(context: Mapping[str, Any]) -> bool:
    """Whether an event loop reports only that another loop of the process has read what gRPC woke both for."""
    handle = repr(context.get("handle"))
    return isinstance(context.get("exception"), BlockingIOError) and "PollerCompletionQueue" in handle


class Loop:
    """An event loop in a daemon thread; `run` waits for a coroutine, `iterate` draws from an async iterator."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(report)
        self._ours: set[asyncio.Task[Any]] = set()
        self._stopping = False
        self._submitting = threading.Lock()
        self._thread = threading.Thread(target=self._loop.run_forever, name="trivium-client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`; an interrupt while waiting cancels it.  Raises ClosedError once `stop` has begun."""
        # What came in after the last look for tasks would never run, and its caller wait for ever.
        with self._submitting:
            if self._stopping:
                work.close()
                raise ClosedError("the client is closed")
            future = asyncio.run_coroutine_threadsafe(self._noted(work), self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def _noted(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.current_task()
        assert task is not None, "a coroutine of this loop runs in a task"
        self._ours.add(task)
        try:
            return await work
        finally:
            self._ours.discard(task)

    def iterate(self, items: AsyncIterator[T]) -> Generator[T]:
        """Each item as it comes; leaving early closes the source."""
        drawing: set[asyncio.Task[Any]] = set()

        async def following() -> tuple[T] | None:
            task = asyncio.current_task()
            assert task is not None, "a coroutine of this loop runs in a task"
            drawing.add(task)
            # StopAsyncIteration cannot cross a future, so the end is a value; and an item may itself be None.
            try:
                return (await anext(items),)
            except StopAsyncIteration:
                return None
            finally:
                drawing.discard(task)

        try:
            while there := self.run(following()):
                yield there[0]
        finally:
            # Who stops the loop closes the source with it.
            with contextlib.suppress(ClosedError):
                self.run(_close(items, drawing))

    def stop(self, grace_seconds: float = _GRACE_SECONDS) -> None:
        """End the thread, once nothing is left in the loop: neither a task nor a source that was left half read."""
        with self._submitting:
            self._stopping = True
            emptied = asyncio.run_coroutine_threadsafe(self._emptied(grace_seconds), self._loop)
        try:
            emptied.result()
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _emptied(self, grace_seconds: float) -> None:
        """End what other threads run here, then the sources, which none of it reads any more, then what these leave."""
        await _cancelled(list(self._ours))
        await self._loop.shutdown_asyncgens()
        # gRPC's own tasks are waited for before they are cancelled: they lend it the memory that a call's end goes to.
        until = self._loop.time() + grace_seconds
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            _, late = await asyncio.wait(others, timeout=max(0, until - self._loop.time()))
            await _cancelled(late)


async def _cancelled(tasks: Collection[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _close(items: AsyncIterator[Any], drawing: Collection[asyncio.Task[Any]]) -> None:
    """Close a source; what was interrupted while it drew an item ends first, for until then it cannot be closed."""
    interrupted = list(drawing)
    for task in interrupted:
        # Cancelled twice, it would be disturbed while it puts things in order.
        if not task.cancelling():
            task.cancel()
    await asyncio.gather(*interrupted, return_exceptions=True)
    closing = getattr(items, "aclose", None)
    if closing is not None:
        await closing()
