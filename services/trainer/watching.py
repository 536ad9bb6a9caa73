"""Live events: a job's stored events first, then each one as it is committed.

Invariant: a watcher sees every sequence number after its cursor once and in order, across
any number of reconnections, because it reads rows and is only woken by memory.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress

from services.trainer.job import Event
from services.trainer.jobs import Jobs

# How long what another trainer stored, whose bell rings elsewhere, may go unheard.
LOOK_SECONDS = 2.0


class Bell:
    """Wakes whoever listens for a job."""

    def __init__(self) -> None:
        self._listeners: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    def ring(self, job: str) -> None:
        """Wake the listeners of one job."""
        for listener in self._listeners.get(job, ()):
            listener.set()

    @contextmanager
    def listen(self, job: str) -> Iterator[asyncio.Event]:
        """An event that is set by every ring from now on; the listener clears it."""
        listener = asyncio.Event()
        self._listeners[job].add(listener)
        try:
            yield listener
        finally:
            self._listeners[job].discard(listener)
            if not self._listeners[job]:
                del self._listeners[job]


async def follow(
    jobs: Jobs, bell: Bell, tenant: str, job: str, after: int, *, look_seconds: float = LOOK_SECONDS
) -> AsyncIterator[Event]:
    """Yield the job's events behind sequence `after` until the job has ended.  Raises JOB_NOT_FOUND."""
    with bell.listen(job) as rung:
        while True:
            rung.clear()
            events, now = await jobs.events(tenant, job, after)
            for event in events:
                yield event
                after = event.sequence
            if not events:
                if now.state.finished:
                    return
                with suppress(TimeoutError):
                    async with asyncio.timeout(look_seconds):
                        await rung.wait()
