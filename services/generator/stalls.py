"""Notices an engine that lives and does nothing: its process was stopped, or is stuck in native code.

Invariants: silence counts only while something is asked of the engine, so one that nobody uses is never taken for a
hung one; whatever comes from it ends the silence.  After a while it is asked a question that its loop answers between
two steps: a prompt of many steps, which says nothing before its last, is therefore no silence.  Time in which this
process itself did not run is nobody's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

from services.generator.engine import EngineLost, EngineRefused

_LOOK_SECONDS = 0.2
# Between two looks so much counts at most: the machine may have slept.
_MOST_COUNTED_SECONDS = 1.0
# Silence after which the engine is asked whether it is there; a shorter bound is asked for in good time.
_QUESTION_AFTER_SECONDS = 1.0
_QUESTION_PART = 0.25


class Pulse:
    """What is heard of one engine; with ``stall_seconds`` 0 no silence is too long.

    ``question`` is answered by the engine's own loop; it is itself ``asked``, and may raise EngineLost or EngineRefused.
    """

    def __init__(
        self,
        stall_seconds: float,
        question: Callable[[], Awaitable[object]],
        monotonic: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._stall_seconds = stall_seconds
        self._question = question
        self._now = monotonic
        self._pause = pause
        self._asked = 0
        self._asking: asyncio.Task[None] | None = None
        self.silent_seconds = 0.0

    @contextmanager
    def asked(self) -> Iterator[None]:
        """While the block lasts something is expected of the engine."""
        self._asked += 1
        try:
            yield
        finally:
            self._asked -= 1

    def heard(self) -> None:
        """Something came from the engine."""
        self.silent_seconds = 0.0

    async def stalled(self, alive: Callable[[], bool]) -> bool:
        """Return True once the engine was silent for too long, False once it is not ``alive``; it begins unsuspected."""
        self.heard()
        try:
            looked = self._now()
            while alive():
                await self._pause(_LOOK_SECONDS)
                now = self._now()
                if self._too_long(now - looked):
                    return alive()
                looked = now
            return False
        finally:
            if self._asking is not None:
                self._asking.cancel()
                self._asking = None

    def _too_long(self, passed_seconds: float) -> bool:
        """Count what passed since the last look, and ask in time."""
        if not (self._stall_seconds and self._asked):
            return False
        self.silent_seconds += min(passed_seconds, _MOST_COUNTED_SECONDS)
        idle = self._asking is None or self._asking.done()
        if idle and self.silent_seconds >= min(_QUESTION_AFTER_SECONDS, _QUESTION_PART * self._stall_seconds):
            self._asking = asyncio.create_task(self._ask())
        return self.silent_seconds >= self._stall_seconds

    async def _ask(self) -> None:
        # A refusal is a sign of life as well; of its death somebody else tells.
        with suppress(EngineLost):
            with suppress(EngineRefused):
                await self._question()
            self.heard()
