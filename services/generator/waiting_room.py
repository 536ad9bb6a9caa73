"""Requests that wait for an engine that does not run, by the engine's base.

Invariants: at most ``capacity`` wait, and of one tenant at most half of them; a request
leaves by being granted, refused or going away, once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from services.chassis.errors import Failure, Reason
from services.generator.admission import RETRY_SECONDS


@dataclass(eq=False, slots=True)
class Wait:
    """One request that waits; ``ready`` is set when its engine answers, or will not."""

    digest: str
    tenant: str
    since: float
    ready: asyncio.Future[None] = field(repr=False)

    @property
    def granted(self) -> bool:
        """Whether the engine was given to it."""
        return self.ready.done() and not self.ready.cancelled() and self.ready.exception() is None


class WaitingRoom:
    """Everybody who waits."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._waits: dict[str, list[Wait]] = {}

    def __contains__(self, digest: str) -> bool:
        return digest in self._waits

    def count(self, digest: str) -> int:
        """How many wait for an engine."""
        return len(self._waits.get(digest, ()))

    def enter(self, digest: str, tenant: str, since: float) -> Wait:
        """Begin to wait.  Raises OVERLOADED when there is no place, or none for this tenant."""
        everybody = [wait for waits in self._waits.values() for wait in waits]
        own = sum(wait.tenant == tenant for wait in everybody)
        if len(everybody) >= self._capacity or own >= max(1, self._capacity // 2):
            raise Failure(Reason.OVERLOADED, retry_after_seconds=RETRY_SECONDS, limit=self._capacity)
        wait = Wait(digest, tenant, since, asyncio.get_running_loop().create_future())
        self._waits.setdefault(digest, []).append(wait)
        return wait

    def leave(self, wait: Wait) -> None:
        """End a wait; nothing when it has ended."""
        waits = self._waits.get(wait.digest, [])
        if wait in waits:
            waits.remove(wait)
        if not waits:
            self._waits.pop(wait.digest, None)

    def queued(self, digests: Iterable[str]) -> list[tuple[str, set[str], float]]:
        """Which of some engines are waited for, by which tenants, and since when."""
        return [
            (digest, {wait.tenant for wait in waits}, waits[0].since)
            for digest in digests
            if (waits := self._waits.get(digest))
        ]

    def grant(self, digest: str, enter: Callable[[str], None]) -> None:
        """Let all in who wait for an engine; ``enter`` hears the tenant of each."""
        for wait in self._waits.pop(digest, ()):
            if not wait.ready.done():
                enter(wait.tenant)
                wait.ready.set_result(None)

    def refuse(self, digest: str, failure: Callable[[], Failure], before: float | None = None) -> None:
        """Refuse all who wait for an engine, or those who have waited since ``before``; each gets a failure of its own."""
        for wait in list(self._waits.get(digest, ())):
            if before is None or wait.since <= before:
                self.leave(wait)
                if not wait.ready.done():
                    wait.ready.set_exception(failure())
