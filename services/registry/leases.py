"""Who does a piece of long work, over all replicas: a row that its holder renews, and that lapses when the holder dies.

Invariant: nobody begins work on which another's lease has not lapsed.  A holder that stands still for longer than its
lease loses it and may not know: only what is harmless to do twice is done under one, as making a version is, which
is named by its content.  Leases lapse by the database's clock, so those of the replicas may differ.
"""

import asyncio
import hashlib
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.chassis.errors import Failure
from services.registry.store import LeaseRow

# Two renewals may fail before a lease lapses.
_RENEWALS = 3


def holder_of(folder: Path) -> str:
    """Who a replica is: the same over its restarts, so that it takes up at once what it held when it was killed."""
    return hashlib.sha256(f"{socket.gethostname()}\0{folder.resolve()}".encode()).hexdigest()


class Leases:
    """The leases of one holder, each for ``seconds`` from its last renewal."""

    def __init__(self, database: Database, holder: str, seconds: float) -> None:
        self._database = database
        self._holder = holder
        self._seconds = seconds

    @asynccontextmanager
    async def held(self, tenant: str, work: str, progress: Callable[[], str]) -> AsyncIterator[str | None]:
        """Hold the lease on a piece of work inside the block, and tell those who ask elsewhere how far it is.

        Yields None when it is held, otherwise what its present holder said last; then the block must not do the work.
        """
        key = (tenant, hashlib.sha256(work.encode()).hexdigest())
        said = await self._database.write(partial(self._take, key=key, progress=progress()))
        if said is not None:
            yield said
            return
        renewing = asyncio.create_task(self._renew(key, progress), name="renew lease")
        try:
            yield None
        finally:
            renewing.cancel()
            await asyncio.wait([renewing])
            # One that cannot be given back lapses.
            with suppress(Failure):
                await self._database.write(partial(self._give_back, key=key))

    def _take(self, session: Session, *, key: tuple[str, str], progress: str) -> str | None:
        now = _now(session)
        session.execute(delete(LeaseRow).where(LeaseRow.expires_at <= now))
        row = session.get(LeaseRow, key)
        if row is not None and row.holder != self._holder:
            return row.progress
        row = row or LeaseRow(tenant=key[0], work=key[1], holder=self._holder)
        row.progress, row.expires_at = progress, now + self._seconds
        session.add(row)
        return None

    async def _renew(self, key: tuple[str, str], progress: Callable[[], str]) -> None:
        while True:
            await asyncio.sleep(self._seconds / _RENEWALS)
            # The next one may succeed; if none does, the lease lapses.
            with suppress(Failure):
                await self._database.write(partial(self._prolong, key=key, progress=progress()))

    def _prolong(self, session: Session, *, key: tuple[str, str], progress: str) -> None:
        row = session.get(LeaseRow, key)
        if row is not None and row.holder == self._holder:
            row.progress, row.expires_at = progress, _now(session) + self._seconds

    def _give_back(self, session: Session, *, key: tuple[str, str]) -> None:
        row = session.get(LeaseRow, key)
        if row is not None and row.holder == self._holder:
            session.delete(row)


def _now(session: Session) -> float:
    """The present moment in Unix seconds, by the one clock that all replicas see."""
    if session.get_bind().dialect.name != "postgresql":
        return time.time()
    return float(session.execute(select(func.extract("epoch", func.clock_timestamp()))).scalar_one())
