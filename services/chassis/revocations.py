"""Revocations of keys, so that an assertion does not outlive the key that it came from.

Access publishes the principals that were revoked while assertions naming them may still
live.  The list is read anew every 30 seconds while calls come; a list older than a
minute is read before the next call is answered.  Where access cannot be reached, the
last list counts: an assertion lives for ten minutes at most, and access is not allowed
to stop everybody else by being down.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from services.chassis.context import Identity
from services.chassis.errors import Failure, Reason

_FRESH_SECONDS = 30.0
_STALE_SECONDS = 60.0
_ATTEMPT_SECONDS = 2.0
_PAUSE_SECONDS = 5.0

Source = Callable[[], Awaitable[frozenset[str]]]


class Revocations:
    """The present list, kept fresh by the calls that ask it."""

    def __init__(self, source: Source, clock: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._clock = clock
        self._revoked: frozenset[str] = frozenset()
        self._read_at = float("-inf")
        self._next_attempt = float("-inf")
        self._reading: asyncio.Task[None] | None = None

    def cleared(self, identity: Identity) -> bool:
        """Whether a list that is fresh does not name the principal: nothing to wait for."""
        return self._clock() - self._read_at < _FRESH_SECONDS and identity.principal_id not in self._revoked

    async def check(self, identity: Identity) -> None:
        """Raise CREDENTIAL_INVALID for a revoked principal, unless a service finishes accepted work for it."""
        age = self._clock() - self._read_at
        if age >= _FRESH_SECONDS:
            reading = self._read()
            if age >= _STALE_SECONDS and reading is not None:
                await asyncio.shield(reading)
        if identity.principal_id in self._revoked and not identity.actor:
            raise Failure(Reason.CREDENTIAL_INVALID)

    def _read(self) -> "asyncio.Task[None] | None":
        """The read in progress, or a new one; None while the pause after an attempt lasts."""
        if self._reading is None or self._reading.done():
            if self._clock() < self._next_attempt:
                return None
            self._next_attempt = self._clock() + _PAUSE_SECONDS
            self._reading = asyncio.create_task(self._attempt(), name="read-revocations")
        return self._reading

    async def _attempt(self) -> None:
        try:
            async with asyncio.timeout(_ATTEMPT_SECONDS):
                self._revoked = await self._source()
        except (Failure, TimeoutError):
            return
        self._read_at = self._clock()
