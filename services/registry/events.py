"""What happened, in order, for watchers that come back: an append-only table and a wake-up.

Invariant: an event is written in the transaction of the change that it reports,
under a number taken in that transaction.  So a change that was acknowledged has
its event, a change that was rolled back has none, and a watcher that resumes
after a number misses nothing and sees nothing twice.  Events that are no longer kept are
refused by name: a watcher is never led over a gap.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from services.chassis import notices
from services.chassis.database import Database
from services.chassis.errors import Failure, Reason
from services.registry.callers import Caller
from services.registry.store import CounterRow, EventRow, next_number

_PAGE = 200
_ALL = "events"
# On which replicas over one PostgreSQL tell each other to look.
CHANNEL = "registry_events"


class EventKind(StrEnum):
    """What kind of change an event reports."""

    VERSION_CREATED = "VERSION_CREATED"
    ALIAS_TARGETED = "ALIAS_TARGETED"
    ALIAS_FLIPPED = "ALIAS_FLIPPED"
    ALIAS_FAILED = "ALIAS_FAILED"
    VERSION_DELETED = "VERSION_DELETED"
    ALIAS_DELETED = "ALIAS_DELETED"
    ALIAS_CANARY_CHANGED = "ALIAS_CANARY_CHANGED"
    VERSION_RESTORED = "VERSION_RESTORED"


@dataclass(frozen=True, slots=True)
class Event:
    """One change as a watcher sees it; ``alias`` is the alias after it, None for version events.

    ``sequence`` counts what this watcher may see: its tenant's events, or all for role service.
    """

    sequence: int
    kind: EventKind
    tenant: str
    model: str
    version: str
    alias: dict[str, Any] | None
    created_at: float


@dataclass(frozen=True, slots=True)
class Beat:
    """One message of a watch: an event, or None as a sign of life."""

    event: Event | None
    caught_up: bool = False


def reserve(session: Session, tenant: str, count: int = 1) -> tuple[int, int]:
    """The first of ``count`` new numbers among all events and among the tenant's; replicas are told at the commit."""
    notices.tell(session, CHANNEL)
    return next_number(session, _ALL, count), next_number(session, _counter(tenant), count)


def append(
    session: Session,
    numbers: tuple[int, int],
    kind: EventKind,
    *,
    tenant: str,
    model: str,
    version: str,
    at: float,
    alias: dict[str, Any] | None = None,
) -> None:
    """Add an event under reserved numbers to the open transaction."""
    session.add(
        EventRow(
            sequence=numbers[0],
            tenant=tenant,
            tenant_sequence=numbers[1],
            kind=kind.value,
            model=model,
            version=version,
            alias="" if alias is None else json.dumps(alias, sort_keys=True),
            created_at=at,
        )
    )


def _counter(tenant: str) -> str:
    return f"{_ALL}/{tenant}"


class EventFeed:
    """Hands events to watchers: from the table first, then as they come."""

    def __init__(self, database: Database, sign_of_life_seconds: float) -> None:
        self._database = database
        self._sign_of_life_seconds = sign_of_life_seconds
        self._watchers: set[asyncio.Event] = set()

    def wake(self) -> None:
        """Tell watchers that something was committed."""
        for stirred in self._watchers:
            stirred.set()

    async def watch(self, caller: Caller, after_sequence: int) -> AsyncGenerator[Beat]:
        """Every event after ``after_sequence``, then those to come; a sign of life when nothing does.

        0 begins with the oldest that is kept.  Raises CURSOR_UNKNOWN when the sequence was never reached: the cursor
        is another registry's; CURSOR_EXPIRED when events after it are no longer kept, also later when the watcher is
        so slow that it is overtaken.
        """
        stirred = asyncio.Event()
        self._watchers.add(stirred)
        try:
            cursor, events = await self._database.read(lambda session: _begun(session, caller, after_sequence))
            async for beat in self._follow(caller, cursor, events, stirred):
                yield beat
        finally:
            self._watchers.discard(stirred)

    async def _follow(
        self, caller: Caller, cursor: int, events: list[Event], stirred: asyncio.Event
    ) -> AsyncIterator[Beat]:
        caught_up = False
        time = asyncio.get_running_loop().time
        spoke = time()
        while True:
            for event in events:
                cursor = event.sequence
                yield Beat(event)
            if len(events) < _PAGE:
                # Whatever woke us: others' changes are neither told nor hinted at.
                silent = not events and time() - spoke >= self._sign_of_life_seconds
                if not caught_up or silent:
                    yield Beat(None, caught_up=not caught_up)
                if not caught_up or silent or events:
                    caught_up, spoke = True, time()
                await self._wait(stirred, spoke + self._sign_of_life_seconds - time())
            stirred.clear()  # before the read, so that a commit after the read ends the next wait
            events = await self._page(caller, cursor)

    async def _page(self, caller: Caller, after: int) -> list[Event]:
        return await self._database.read(lambda session: _after(session, caller, after))

    async def _wait(self, stirred: asyncio.Event, seconds: float) -> None:
        """Wait for a wake-up, or for the time of a sign of life: a notice of another replica may be lost."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await stirred.wait()


def _begun(session: Session, caller: Caller, after: int) -> tuple[int, list[Event]]:
    """Where a watch begins, and the first events after that, as they are at one moment.  Raises CURSOR_UNKNOWN."""
    newest = _newest(session, caller)
    if after > newest:
        raise Failure(Reason.CURSOR_UNKNOWN, sequence=after, newest=newest)
    cursor = after or _oldest(session, caller) - 1
    return cursor, _after(session, caller, cursor)


def _newest(session: Session, caller: Caller) -> int:
    row = session.get(CounterRow, _ALL if caller.everywhere else _counter(caller.tenant))
    return 0 if row is None else row.value


def _oldest(session: Session, caller: Caller) -> int:
    """The number of the oldest event that is kept; one beyond the newest when none is."""
    number = EventRow.sequence if caller.everywhere else EventRow.tenant_sequence
    oldest = session.scalar(select(func.min(number)).where(caller.sees(EventRow.tenant)))
    return _newest(session, caller) + 1 if oldest is None else oldest


def _after(session: Session, caller: Caller, after: int) -> list[Event]:
    number = EventRow.sequence if caller.everywhere else EventRow.tenant_sequence
    query = select(EventRow).where(caller.sees(EventRow.tenant), number > after).order_by(number).limit(_PAGE)
    events = [
        Event(
            sequence=row.sequence if caller.everywhere else row.tenant_sequence,
            kind=EventKind(row.kind),
            tenant=row.tenant,
            model=row.model,
            version=row.version,
            alias=json.loads(row.alias) if row.alias else None,
            created_at=row.created_at,
        )
        for row in session.scalars(query)
    ]
    # The next number is there: nothing between is missing, and the usual case costs one query.
    if not events or events[0].sequence != after + 1:
        oldest = _oldest(session, caller)
        if after + 1 < oldest:
            raise Failure(Reason.CURSOR_EXPIRED, sequence=after, oldest=oldest)
    return events


@dataclass(frozen=True, slots=True)
class KeptEvents:
    """How many events are kept, of all tenants together, and for how long."""

    count: int
    seconds: float


async def compact(database: Database, kept: KeptEvents, now: float) -> int:
    """Remove events beyond what is kept; returns how many went.  The numbers of those that come are not touched."""

    def transaction(session: Session) -> int:
        newest = session.get(CounterRow, _ALL)
        if newest is None:
            return 0
        # The boundary in numbers, not times: clocks of replicas differ, and a gap inside what is kept must not be.
        too_old = select(func.max(EventRow.sequence)).where(EventRow.created_at < now - kept.seconds)
        last = max(newest.value - kept.count, session.scalar(too_old) or 0)
        old = EventRow.sequence <= last
        gone = session.scalar(select(func.count()).where(old)) or 0
        session.execute(delete(EventRow).where(old))
        return gone

    return await database.write(transaction)
