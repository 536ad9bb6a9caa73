"""The database goes away and comes back: what was about to be done is done then.

Invariant: what processes have said is in this process's hands alone until it is stored, so none of it is dropped
because the database, or its disk's free space, was away for a while.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from services.chassis.errors import Failure, Reason
from services.chassis.logs import Log

T = TypeVar("T")

# What a database that is away, or whose disk is full, is told by.
AWAY = frozenset({Reason.PEER_UNAVAILABLE, Reason.DISK_FULL})


class Patience:
    """Does things again until the database is back, with `pause_seconds` in between."""

    def __init__(self, pause_seconds: float, log: Log) -> None:
        self._pause_seconds = pause_seconds
        self._log = log

    async def __call__(self, act: Callable[[], Awaitable[T]]) -> T:
        """Do it, and return what came of it.  It must bear being done twice: nobody knows whether a lost one was done."""
        told = False
        while True:
            try:
                done = await act()
            except Failure as failure:
                if failure.reason not in AWAY:
                    raise
                if not told:
                    self._log.warning("database_away", why=failure.sentence)
                told = True
                await asyncio.sleep(self._pause_seconds)
            else:
                if told:
                    self._log.info("database_back")
                return done
