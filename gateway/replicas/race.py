"""One request at up to two replicas: the second is asked where the first fails or has said nothing for too long.

Invariant: from its first token on an answer is of one replica alone, whichever spoke first, and the other has been told to
stop before anything of it is passed on.  The end says that a second one was asked, and why it answered if it did.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from gateway.generation import Fallback, Generated, Opening, StageTiming, TextDelta
from services.chassis.errors import Code, Failure

Part = Opening | TextDelta | Generated
Parts = AsyncGenerator[Part]
# Begins the answer of a second replica, after a failure of the first, or None where that was only silent; None: there is none.
Second = Callable[[Failure | None], Parts | None]
STAGE = "replica"
_INSTEAD = "another replica of the generator"


class Race:
    """One request, run once.  ``patience`` ends when a first message is overdue; without it only failures have a second asked."""

    def __init__(
        self,
        first: Parts,
        second: Second,
        clock: Callable[[], float],
        patience: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self._first = first
        self._second = second
        self._clock = clock
        self._patience = patience
        self._legs: list[_Leg] = []
        self._overdue: asyncio.Future[object] | None = None
        self._began = 0.0
        self._lost_seconds: float | None = None
        self._failure: Failure | None = None
        self.hedged = False
        self.second_answers = False

    async def parts(self) -> Parts:
        """The answer.  Closing the iterator stops every replica that was asked.  Raises the failure that ends it."""
        self._began = self._clock()
        told = False
        try:
            self._legs.append(_Leg(self._first))
            self._overdue = None if self._patience is None else asyncio.ensure_future(self._patience())
            while True:
                leg = await self._speaks_first()
                self.second_answers = leg.is_second
                try:
                    async with aclosing(leg.said()) as parts:
                        async for part in parts:
                            told = told or not isinstance(part, Opening)
                            yield self._noted(part) if isinstance(part, Generated) else part
                    return
                except Failure as failure:
                    if told:
                        raise
                    self._fails(leg, failure)
        finally:
            await self._stop()

    async def _speaks_first(self) -> "_Leg":
        """The replica that says something before the other does; the other is told to stop."""
        while True:
            awaited: list[asyncio.Future[Any]] = [leg.saying for leg in self._legs]
            if self._overdue is not None:
                awaited.append(self._overdue)
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
            for leg in [leg for leg in self._legs if leg.saying.done()]:
                failure = leg.failure()
                if failure is None:
                    await self._stop(but=leg)
                    return leg
                self._fails(leg, failure)
            if self._overdue is not None and self._overdue.done():
                self._overdue = None
                self._hedge()

    def _hedge(self) -> None:
        parts = self._second(None) if self._lost_seconds is None else None
        if parts is not None:
            self.hedged = True
            self._ask(parts)

    def _ask(self, parts: Parts) -> None:
        self._lost_seconds = self._clock() - self._began
        self._legs.append(_Leg(parts, is_second=True))

    def _fails(self, leg: "_Leg", failure: Failure) -> None:
        """Go on with the other replica.  Raises the failure where there is none, or where any other would fail alike."""
        self._legs.remove(leg)
        passing = failure.code is Code.UNAVAILABLE
        if self._legs and leg.is_second:
            # Everything is as if it had not been asked.
            return
        if not passing:
            raise failure
        if not self._legs:
            parts = self._second(failure) if self._lost_seconds is None else None
            if parts is None:
                raise failure
            self._ask(parts)
        self._failure = failure

    def _noted(self, end: Generated) -> Generated:
        if self._lost_seconds is None:
            return end
        if not self.second_answers:
            return replace(end, timings=(StageTiming(STAGE, 0.0, 2), *end.timings))
        silent = f"the first had said nothing after {self._lost_seconds:.2f} s"
        reason = silent if self._failure is None else f"the first failed: {self._failure.sentence}"
        return replace(
            end,
            timings=(StageTiming(STAGE, self._lost_seconds, 2), *end.timings),
            fallbacks=(*end.fallbacks, Fallback(STAGE, _INSTEAD, reason)),
        )

    async def _stop(self, but: "_Leg | None" = None) -> None:
        """Stop all replicas but one."""
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None
        stopped = [leg for leg in self._legs if leg is not but]
        self._legs = [leg for leg in self._legs if leg is but]
        for leg in stopped:
            await leg.stop()


class _Leg:
    """One replica's answer, whose first part is being awaited."""

    __slots__ = ("_parts", "is_second", "saying")

    def __init__(self, parts: Parts, *, is_second: bool = False) -> None:
        self._parts = parts
        self.is_second = is_second
        self.saying = asyncio.create_task(_next(parts))

    def failure(self) -> Failure | None:
        """Why it says nothing; None where it does."""
        error = self.saying.exception()
        if error is not None and not isinstance(error, Failure):
            raise error
        return error

    async def said(self) -> Parts:
        """All that it says, from the beginning."""
        async with aclosing(self._parts):
            yield self.saying.result()
            async for part in self._parts:
                yield part

    async def stop(self) -> None:
        """Close it, wherever it is."""
        self.saying.cancel()
        # Whatever it still has to say, or fails with, is nobody's any more.
        await asyncio.gather(self.saying, return_exceptions=True)
        await self._parts.aclose()


async def _next(parts: Parts) -> Part:
    return await anext(parts)
