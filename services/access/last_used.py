"""When keys were last used: kept in memory, written now and then, so that checking a key stays a read.

Invariant: what is told is never later than a use that was, and never goes back; a kill loses at most the last half minute
of uses.
"""

from collections.abc import Callable, Mapping

from sqlalchemy import or_, update
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
        uses = [used for used in (self._used.get(key), stored) if used is not None]
        return max(uses, default=None)

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
        # Another replica may have written a later use meanwhile.
        is_later = or_(KeyRow.used_at.is_(None), KeyRow.used_at < used[key])
        session.execute(update(KeyRow).where(KeyRow.key == key, is_later).values(used_at=used[key]))
