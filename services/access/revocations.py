"""Who must be refused though an assertion that names him is still valid."""

from collections.abc import Callable

from services.access.keys import Keys
from services.access.users import Users

# Clocks of two machines may differ by this much.
_SLACK_SECONDS = 60


class Revocations:
    """The keys and the users that stopped working less than an assertion's life ago."""

    def __init__(self, keys: Keys, users: Users, *, lifetime_seconds: int, now: Callable[[], int]) -> None:
        self._keys = keys
        self._users = users
        self._window = (lifetime_seconds + _SLACK_SECONDS) * 1_000_000
        self._now = now

    async def current(self) -> list[str]:
        """Their ids; older ones have no assertion that still lives."""
        since = self._now() - self._window
        return await self._keys.revoked_since(since) + await self._users.revoked_since(since)
