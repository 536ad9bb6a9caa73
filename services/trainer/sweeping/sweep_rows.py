"""Rows of sweeps and their members, and a sweep's settlement into rows.

Invariants: what a sweep decides and what becomes of its members' jobs is one transaction; whoever settles a sweep has
its row to itself, and takes the members' rows after it, always in their order.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.chassis.errors import Failure, Reason
from services.trainer.job import EventKind, Job, Order, Progress, State
from services.trainer.job_rows import add, job_of, move, tell
from services.trainer.store import EventRow, JobRow, SweepMemberRow, SweepRow
from services.trainer.sweeping.axes import Point
from services.trainer.sweeping.settling import Change, Settlement
from services.trainer.sweeping.sweep import Asked, Member, Sweep, SweepState


@dataclass(frozen=True, slots=True)
class Created:
    """A member to be: its job's id and order, what it differs in, its steps as planned, and those of its rungs."""

    job: str
    order: Order
    point: Point
    total_steps: int
    hold_steps: tuple[int, ...]


def create(
    session: Session, tenant: str, name: str, principal: str, asked: Asked, members: Sequence[Created], now: float
) -> SweepRow:
    """Make the rows of a sweep and its members, and the members' jobs."""
    row = SweepRow(
        tenant=tenant,
        sweep=name,
        state=SweepState.RUNNING.value,
        rungs=json.dumps(asked.rungs),
        kept_ratio=asked.kept_ratio,
        best="",
        message="",
        created_at=now,
    )
    session.add(row)
    for member in members:
        add(session, tenant, member.job, principal, member.order, Progress(total_steps=member.total_steps), now)
    session.flush()
    for position, member in enumerate(members):
        session.add(
            SweepMemberRow(
                tenant=tenant,
                sweep=name,
                position=position,
                job=member.job,
                point=json.dumps(member.point),
                hold_steps=json.dumps(member.hold_steps),
                released=0,
                trained=False,
                ended_at_rung=0,
            )
        )
    session.flush()
    return row


def find(session: Session, tenant: str, sweep: str, *, locked: bool = False) -> SweepRow:
    """Return the row; `locked`: as it stays until the transaction ends.  Raises SWEEP_NOT_FOUND."""
    row = session.get(SweepRow, (tenant, sweep), with_for_update=locked or None)
    if row is None:
        raise Failure(Reason.SWEEP_NOT_FOUND, name=sweep)
    return row


def sweep_of(session: Session, row: SweepRow, *, locked: bool = False) -> Sweep:
    """Return the sweep as the domain knows it; `locked`: its members' jobs stay as they are until the transaction ends."""
    return Sweep(
        tenant=row.tenant,
        sweep=row.sweep,
        members=tuple(member for member, _, _ in _members(session, row, locked=locked)),
        rungs=tuple(json.loads(row.rungs)),
        kept_ratio=row.kept_ratio,
        state=SweepState(row.state),
        create_time=_time(row.created_at),
        end_time=_time(row.ended_at) if row.ended_at is not None else None,
        best=row.best,
        message=row.message,
    )


def apply(session: Session, row: SweepRow, settlement: Settlement, now: float) -> list[str]:
    """Do what was settled; return the jobs that changed."""
    changed = change(session, row, settlement.changes, now)
    row.best, row.message = settlement.best, settlement.message
    if settlement.state is not SweepState.RUNNING:
        row.state, row.ended_at = settlement.state.value, now
    return changed


def change(session: Session, row: SweepRow, changes: Mapping[int, Change], now: float) -> list[str]:
    """Change members by position; return their jobs."""
    members = _members(session, row, locked=True) if changes else []
    for position, wanted in changes.items():
        _, member, job = members[position]
        if wanted.released is not None:
            member.released = wanted.released
        if wanted.ended_at_rung is not None:
            member.ended_at_rung = wanted.ended_at_rung
        if wanted.state is None:
            tell(session, job, EventKind.MESSAGE, now, message=wanted.message)
            continue
        if wanted.state is State.QUEUED:
            job.queued_at = now
        move(session, job, wanted.state, wanted.message, now)
    return [members[position][2].job for position in changes]


def next_hold(row: SweepMemberRow) -> int:
    """The step up to which a member may train now; 0 when to the end."""
    steps: list[int] = json.loads(row.hold_steps)
    return steps[row.released] if row.released < len(steps) else 0


def member_row(session: Session, tenant: str, job: str) -> SweepMemberRow | None:
    """Return what a sweep knows of the job; None for a job of none."""
    return session.scalar(select(SweepMemberRow).where(SweepMemberRow.tenant == tenant, SweepMemberRow.job == job))


def _members(session: Session, row: SweepRow, *, locked: bool) -> list[tuple[Member, SweepMemberRow, JobRow]]:
    query = (
        select(SweepMemberRow, JobRow)
        .join(JobRow, (JobRow.tenant == SweepMemberRow.tenant) & (JobRow.job == SweepMemberRow.job))
        .where(SweepMemberRow.tenant == row.tenant, SweepMemberRow.sweep == row.sweep)
        .order_by(SweepMemberRow.position)
    )
    found = session.execute(query.with_for_update(of=JobRow) if locked else query).all()
    evaluations = _evaluations(session, row)
    return [(member_of(member, job_of(job), evaluations[job.job]), member, job) for member, job in found]


def _evaluations(session: Session, row: SweepRow) -> dict[str, dict[int, dict[str, float]]]:
    """What the members' events say of their evaluations, by job and step."""
    query = (
        select(EventRow.job, EventRow.progress, EventRow.evaluation)
        .join(
            SweepMemberRow,
            (SweepMemberRow.tenant == EventRow.tenant) & (SweepMemberRow.job == EventRow.job),
        )
        .where(
            SweepMemberRow.tenant == row.tenant,
            SweepMemberRow.sweep == row.sweep,
            EventRow.kind == EventKind.EVALUATION.value,
        )
        .order_by(EventRow.job, EventRow.sequence)
    )
    found: dict[str, dict[int, dict[str, float]]] = defaultdict(dict)
    for job, progress, evaluation in session.execute(query):
        found[job][json.loads(progress)["step"]] = json.loads(evaluation)
    return found


def member_of(row: SweepMemberRow, job: Job, evaluations: Mapping[int, Mapping[str, float]] | None = None) -> Member:
    """Return the row of a job's as the domain knows it."""
    return Member(
        job=job,
        point=tuple((name, value) for name, value in json.loads(row.point)),
        hold_steps=tuple(json.loads(row.hold_steps)),
        evaluations=evaluations or {},
        released=row.released,
        trained=row.trained,
        ended_at_rung=row.ended_at_rung,
    )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
