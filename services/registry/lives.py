"""Which process of a generator speaks, and which generators are alive.

A generator keeps its name over restarts, and each of its processes draws an instance.
Invariant: of a generator only the life that was first heard last counts; when a new one
is heard, every word of the others is deleted in the same transaction, and the others
are refused from then on.
"""

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from services.chassis.errors import Failure, Reason
from services.registry.readiness import Life
from services.registry.store import CounterRow, next_number
from services.registry.store_aliases import LifeRow, ReadinessRow

# Former lives that are remembered, so that a straggler of one is not taken for a new one.
_FORMER_LIVES = 32
# A generator that was silent for so long is not expected back under its name: many bear the name of a machine that is
# gone, and each left a word on every version that it held.
FORGOTTEN_SECONDS = 7 * 24 * 3600.0


def hear(session: Session, life: Life, now: float) -> None:
    """Note that a life has spoken.  Raises GENERATOR_REPLACED when a later one has."""
    row = session.get(LifeRow, (life.generator, life.instance))
    if row is None:
        _begin(session, life, now)
        return
    later = select(LifeRow.number).where(LifeRow.generator == life.generator, LifeRow.number > row.number)
    if session.scalar(later.limit(1)) is not None:
        raise Failure(Reason.GENERATOR_REPLACED, name=life.generator)
    row.seen_at = now
    session.flush()


def _begin(session: Session, life: Life, now: float) -> None:
    number = next_number(session, f"lives/{life.generator}")
    session.execute(delete(ReadinessRow).where(ReadinessRow.generator == life.generator))
    session.execute(delete(LifeRow).where(LifeRow.generator == life.generator, LifeRow.number < number - _FORMER_LIVES))
    session.add(LifeRow(generator=life.generator, instance=life.instance, number=number, seen_at=now))
    session.flush()


def forget_silent(session: Session, since: float) -> int:
    """Forget generators that nobody has heard since a time, and their words; returns how many lives went.

    One that speaks again begins a life, and says once more what it holds.
    """
    heard = select(LifeRow.generator).where(LifeRow.seen_at >= since)
    silent = LifeRow.generator.not_in(heard)
    counters = [f"lives/{name}" for name in session.scalars(select(LifeRow.generator).where(silent).distinct())]
    gone = session.scalar(select(func.count()).select_from(LifeRow).where(silent)) or 0
    session.execute(delete(LifeRow).where(silent))
    session.execute(delete(ReadinessRow).where(ReadinessRow.generator.not_in(select(LifeRow.generator))))
    for name in counters:
        session.execute(delete(CounterRow).where(CounterRow.name == name))
    return gone


def living(session: Session, since: float) -> frozenset[Life]:
    """The present life of every generator that has spoken since a time."""
    rows = session.scalars(select(LifeRow).where(LifeRow.seen_at >= since).order_by(LifeRow.number))
    # By rising number, so that the latest of a generator stays.
    return frozenset({row.generator: Life(row.generator, row.instance) for row in rows}.values())
