"""Who must be refused though an assertion that names him is still valid."""

from collections.abc import Callable

from services.access.keys import Keys

# Clocks of two machines may differ by this much.
_SLACK_SECONDS = 60


class Revocations:
    """The keys that stopped working less than an assertion's life ago."""

    def __init__(self, keys: Keys, *, lifetime_seconds: int, now: Callable[[], int]) -> None:
        self._keys = keys
        self._window = (lifetime_seconds + _SLACK_SECONDS) * 1_000_000
        self._now = now

    async def current(self) -> list[str]:
        """Their key ids; older ones have no assertion that still lives."""
        return await self._keys.revoked_since(self._now() - self._window)
