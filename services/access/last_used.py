"""When keys were last used: kept in memory, written now and then, so that checking a key stays a read.

Invariant: what is told is never later than a use that was; a kill loses at most the last half minute of uses.
"""

from collections.abc import Callable, Mapping

from sqlalchemy import update
from sqlalchemy.orm import Session

from services.access.store import KeyRow
from services.chassis.database import Database

FLUSH_SECONDS = 30.0


class LastUsed:
    """The latest use of each key since the last writing."""

    def __init__(self, database: Database, now: Callable[[], int]) -> None:
        self._database = database
        self._now = now
        self._used: dict[str, int] = {}

    def note(self, key: str) -> None:
        """The key was used now."""
        self._used[key] = self._now()

    def of(self, key: str, stored: int | None) -> int | None:
        """The latest use that is known, Unix microseconds."""
        return self._used.get(key, stored)

    async def flush(self) -> None:
        """Write what is not written yet; what cannot be written now is tried again the next time."""
        used, self._used = self._used, {}
        try:
            if used:
                await self._database.write(lambda session: _write(session, used))
        except BaseException:
            self._used = used | self._used
            raise


def _write(session: Session, used: Mapping[str, int]) -> None:
    # In one order, so that two replicas that write the same keys wait for one another rather than for ever.
    for key in sorted(used):
        session.execute(update(KeyRow).where(KeyRow.key == key).values(used_at=used[key]))
