"""Rows of jobs and their events, and the two ways in which a row changes: a move along `MOVES`, and an event.

Invariants: a state changes along `MOVES` alone and never without an event; a job's events are numbered from 1 without
gap; a job that no process holds has no lease; a transaction that holds more rows of the queue than one job's has its
turn first.
"""

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from services.chassis.database import take_turn
from services.chassis.errors import Failure, Reason
from services.trainer.job import MOVES, Event, EventKind, Job, Lease, Measures, Order, Progress, State
from services.trainer.scheduling.state import Priority
from services.trainer.settings import settings_from
from services.trainer.store import EventRow, JobRow


def take_queue(session: Session) -> None:
    """Have the turn of the queue until the transaction ends.  Call first in one that holds several rows of it.

    Jobs, use of tenants, sweeps and datasets: two transactions that hold some of them, each in its own order, would wait
    for one another.  Who holds a single row needs no turn.
    """
    take_turn(session, "trainer queue")


def find(session: Session, tenant: str, job: str, *, locked: bool = False) -> JobRow:
    """Return the row; `locked`: as it stays until the transaction ends, except for what the transaction does.

    PostgreSQL locks the row for that; SQLite, which knows no such lock, has one writer at a time.  Raises
    JOB_NOT_FOUND.
    """
    row = session.get(JobRow, (tenant, job), with_for_update=locked or None)
    if row is None:
        raise Failure(Reason.JOB_NOT_FOUND, name=job)
    return row


def require_few(session: Session, tenant: str, added: int, most: int) -> None:
    """Raise JOBS_EXHAUSTED if with so many more the tenant would have over `most` jobs that have not ended.

    Call in a transaction that has its turn of the queue, before they are added.
    """
    states = [state.value for state in State if not state.finished]
    query = select(func.count()).select_from(JobRow).where(JobRow.tenant == tenant, JobRow.state.in_(states))
    unfinished = session.scalar(query) or 0
    if unfinished + added > most:
        raise Failure(Reason.JOBS_EXHAUSTED, unfinished=unfinished, limit=most, added=added)


def add(
    session: Session, tenant: str, job: str, principal: str, order: Order, progress: Progress, now: float
) -> JobRow:
    """Make a queued job's row, with its first event."""
    row = JobRow(
        tenant=tenant,
        job=job,
        principal=principal,
        dataset_digest=order.dataset_digest,
        validation_digest=order.validation_dataset_digest,
        order=json.dumps(asdict(order)),
        progress=json.dumps(asdict(progress)),
        state=State.QUEUED.value,
        version="",
        error_reason="",
        error_message="",
        attempts=0,
        crashes=0,
        sequence=0,
        created_at=now,
        queued_at=now,
        lease_owner="",
        lease_epoch=0,
        lease_expires_at=0.0,
        lease_since=0.0,
        lease_nodes="[]",
        measures="{}",
        result_seen_at=0.0,
    )
    session.add(row)
    session.flush()
    tell(session, row, EventKind.STATE, now, message="queued")
    return row


def move(session: Session, row: JobRow, state: State, message: str, now: float) -> None:
    """Give the job another state and tell it.  Raises ValueError for a move that is none."""
    if state not in MOVES[State(row.state)]:
        raise ValueError(f"a job does not go from {row.state} to {state}")
    row.state = state.value
    if state is State.RUNNING and row.started_at is None:
        row.started_at = now
    if state is State.REGISTERING:
        # By who settles it.
        row.result_seen_at = now
    if state.finished:
        row.ended_at = now
    if not state.holds_child:
        release(row)
    tell(session, row, EventKind.STATE, now, message=message)


def release(row: JobRow) -> None:
    """Nobody holds the job any more; its epoch stays, so that who held it writes nothing more."""
    row.lease_owner, row.lease_expires_at, row.lease_nodes = "", 0.0, "[]"


def tell(session: Session, row: JobRow, kind: EventKind, now: float, **values: Any) -> None:
    """Append an event.  `values` are columns of the event; the progress in it is the row's unless they say another."""
    row.sequence += 1
    plain: dict[str, Any] = {"learning_rate": 0.0, "gradient_norm": 0.0, "message": "", "progress": row.progress}
    session.add(
        EventRow(
            tenant=row.tenant,
            job=row.job,
            sequence=row.sequence,
            kind=kind.value,
            state=row.state,
            created_at=now,
            **(plain | values),
        )
    )


def job_of(row: JobRow) -> Job:
    """Return the row as the domain knows it."""
    return Job(
        tenant=row.tenant,
        job=row.job,
        principal=row.principal,
        order=order_from(json.loads(row.order)),
        state=State(row.state),
        progress=Progress(**json.loads(row.progress)),
        create_time=_time(row.created_at),
        queue_time=_time(row.queued_at),
        start_time=_time(row.started_at) if row.started_at is not None else None,
        end_time=_time(row.ended_at) if row.ended_at is not None else None,
        version=row.version,
        error_reason=row.error_reason,
        error_message=row.error_message,
        attempts=row.attempts,
        crashes=row.crashes,
        lease=Lease(
            row.lease_owner, row.lease_epoch, row.lease_expires_at, tuple(json.loads(row.lease_nodes)), row.lease_since
        ),
        measures=Measures(**json.loads(row.measures)),
        result_seen_at=row.result_seen_at,
    )


def order_from(stored: dict[str, Any]) -> Order:
    """Rebuild an order from what `dataclasses.asdict` and JSON made of it; what an earlier release lacked is default."""
    order = Order(**{**stored, "settings": settings_from(stored["settings"])})
    return replace(
        order,
        priority=Priority(order.priority),
        depends_on=tuple(order.depends_on),
        warnings=tuple(order.warnings),
        labels=tuple((name, value) for name, value in order.labels),
    )


def event_of(row: EventRow) -> Event:
    """Return the row as the domain knows it."""
    return Event(
        kind=EventKind(row.kind),
        state=State(row.state),
        progress=Progress(**json.loads(row.progress)),
        create_time=_time(row.created_at),
        learning_rate=row.learning_rate,
        gradient_norm=row.gradient_norm,
        message=row.message,
        sequence=row.sequence,
        tokens_per_second=row.tokens_per_second,
        memory_bytes=row.memory_bytes,
        evaluation=json.loads(row.evaluation),
    )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
