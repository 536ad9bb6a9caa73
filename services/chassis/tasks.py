"""Ends tasks, and tells what those of a process wait for.

Invariant: a task that ends another one can itself be cancelled meanwhile, and is.  ``suppress(CancelledError)`` around
``await other`` cannot tell whose cancellation it swallows, and who loses its own runs for ever: a server that drains
waits for it until it is killed.
"""

import asyncio
import faulthandler
import signal
import sys
from typing import Any

from services.chassis.logs import Log

# What an operator sends to a server that hangs: what each task and each thread is at, on standard error.
TELL = signal.SIGUSR1


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel the tasks and wait until they have ended.  Raises what one of them failed with, if it did."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.result()


def tell_on_signal(log: Log) -> None:
    """From now on ``TELL`` has this process say what it is at; call it in the event loop.

    The threads are told even where the loop stands still: no Python code has to run for it.
    """
    asyncio.get_running_loop().add_signal_handler(TELL, _tell, log)
    faulthandler.register(TELL, file=sys.stderr, all_threads=True, chain=True)


def _tell(log: Log) -> None:
    for task in asyncio.all_tasks():
        log.info("task", name=task.get_name(), stack=_frames(task.get_coro()))


def _frames(awaited: Any) -> list[str]:
    """From outside in, through all that is awaited: ``Task.get_stack`` stops at the outermost coroutine."""
    frames = list[str]()
    while awaited is not None:
        kind = next((prefix for prefix in ("cr", "gi", "ag") if hasattr(awaited, f"{prefix}_frame")), None)
        if kind is None:
            break
        frame = getattr(awaited, f"{kind}_frame")
        if frame is not None:
            frames.append(f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}")
        awaited = getattr(awaited, "gi_yieldfrom" if kind == "gi" else f"{kind}_await")
    return frames
