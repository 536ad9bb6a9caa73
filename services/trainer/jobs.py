"""The verbs on jobs, and the rows that remember them: every change of state is a row and an event in one transaction.

Invariants: a state changes along `MOVES` alone and never without an event; a job's events
are numbered from 1 without gap; and who changes a job sees what everybody before it
decided.
"""

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.chassis.errors import Failure, Reason
from services.chassis.idempotency import IdempotencyKey, once
from services.trainer.data.datasets import find
from services.trainer.job import MOVES, Event, EventKind, Job, Move, Order, Progress, State
from services.trainer.settings import settings_from
from services.trainer.store import EventRow, JobRow

Changed = Callable[[str], None]
Admit = Callable[[], Awaitable[object]]


class Jobs:
    """The verbs.

    `admit` raises what speaks against taking on another job; `changed` is called with a job's id after every commit
    that concerns it.
    """

    def __init__(
        self,
        database: Database,
        *,
        now: Callable[[], datetime],
        new_id: Callable[[], str],
        admit: Admit,
        changed: Changed,
    ) -> None:
        self._database = database
        self._admit = admit
        self._now = now
        self._new_id = new_id
        self._changed = changed

    async def create(self, tenant: str, principal: str, order: Order, key: IdempotencyKey) -> Job:
        """Queue a job.  Raises DATASET_NOT_FOUND, DISK_FULL, REQUEST_ID_REUSED."""
        await self._admit()

        def queue(session: Session) -> str:
            dataset = find(session, tenant, order.dataset, for_use=True)
            settled = replace(order, dataset=dataset.dataset, dataset_digest=dataset.digest)
            total = steps(dataset.rows, order)
            now = self._now().timestamp()
            row = JobRow(
                tenant=tenant,
                job=self._new_id(),
                principal=principal,
                dataset_digest=dataset.digest,
                order=json.dumps(asdict(settled)),
                progress=json.dumps(asdict(Progress(total_steps=total))),
                state=State.QUEUED.value,
                version="",
                error_reason="",
                error_message="",
                attempts=0,
                crashes=0,
                sequence=0,
                created_at=now,
                queued_at=now,
            )
            session.add(row)
            session.flush()
            self._record(session, row, EventKind.STATE, message="queued")
            return row.job

        def change(session: Session) -> Job:
            job = once(session, key, lambda: queue(session))
            return job_of(_row(session, tenant, job))

        return self._told(await self._database.write(change))

    async def get(self, tenant: str, job: str) -> Job:
        """Return a job.  Raises JOB_NOT_FOUND."""
        return await self._database.read(lambda session: job_of(_row(session, tenant, job)))

    async def page(self, tenant: str, size: int, after: tuple[float, str] | None) -> list[Job]:
        """At most `size` jobs, newest first, from behind `after` (creation time, id)."""
        query = select(JobRow).where(JobRow.tenant == tenant)
        if after is not None:
            query = query.where(tuple_(JobRow.created_at, JobRow.job) < after)
        query = query.order_by(JobRow.created_at.desc(), JobRow.job.desc()).limit(size)
        return await self._database.read(lambda session: [job_of(row) for row in session.scalars(query)])

    async def unfinished(self) -> list[Job]:
        """Every tenant's jobs that have not ended, in the order in which they were queued."""
        states = [state.value for state in State if not state.finished]
        query = select(JobRow).where(JobRow.state.in_(states)).order_by(JobRow.queued_at, JobRow.job)
        return await self._database.read(lambda session: [job_of(row) for row in session.scalars(query)])

    async def cancel(self, tenant: str, job: str) -> Job:
        """Ask for the end of a job.  Raises JOB_NOT_FOUND, JOB_FINISHED; cancelling twice is no error."""

        def change(session: Session) -> Job:
            row = _row(session, tenant, job, held=True)
            state = State(row.state)
            if state in (State.CANCELLED, State.CANCELLING):
                return job_of(row)
            # Trained and on its way into the registry: what is acknowledged there cannot be taken back from here.
            if state.finished or state is State.REGISTERING:
                raise Failure(Reason.JOB_FINISHED, name=job, state=state.value)
            self._move(session, row, State.CANCELLING if state.holds_child else State.CANCELLED, "cancelled on request")
            return job_of(row)

        return self._told(await self._database.write(change))

    async def pause(self, tenant: str, job: str) -> Job:
        """Ask a job to stop after its step.  Raises JOB_NOT_FOUND, JOB_FINISHED; pausing twice is no error."""

        def change(session: Session) -> Job:
            row = _row(session, tenant, job, held=True)
            state = State(row.state)
            if state in (State.PAUSED, State.PAUSING):
                return job_of(row)
            if state not in (State.QUEUED, State.RUNNING):
                raise Failure(Reason.JOB_FINISHED, name=job, state=state.value)
            self._move(session, row, State.PAUSING if state.holds_child else State.PAUSED, "paused on request")
            return job_of(row)

        return self._told(await self._database.write(change))

    async def resume(self, tenant: str, job: str) -> Job:
        """Queue a paused job again, behind those that wait.  Raises JOB_NOT_FOUND, JOB_NOT_PAUSED."""

        def change(session: Session) -> Job:
            row = _row(session, tenant, job, held=True)
            if State(row.state) is not State.PAUSED:
                raise Failure(Reason.JOB_NOT_PAUSED, name=job, state=row.state)
            row.queued_at = self._now().timestamp()
            self._move(session, row, State.QUEUED, "queued again")
            return job_of(row)

        return self._told(await self._database.write(change))

    async def decide(self, job: Job, choose: Callable[[Job], Move | None]) -> Job:
        """Let `choose` look at the job as it is now and move it, in one transaction with nobody in between.

        Returns the job as it is afterwards.  Raises ValueError for a move that is none.
        """

        def change(session: Session) -> Job:
            row = _row(session, job.tenant, job.job, held=True)
            chosen = choose(job_of(row))
            if chosen is not None:
                for name, value in chosen.columns.items():
                    setattr(row, name, value)
                if chosen.state is State(row.state):
                    self._record(session, row, EventKind.MESSAGE, chosen.message)
                else:
                    self._move(session, row, chosen.state, chosen.message)
            return job_of(row)

        return self._told(await self._database.write(change))

    async def record(self, job: Job, events: list[Event], **columns: object) -> Job:
        """Append what a running job reports; its newest progress becomes the job's."""

        def change(session: Session) -> Job:
            row = _row(session, job.tenant, job.job, held=True)
            for name, value in columns.items():
                setattr(row, name, value)
            for event in events:
                if event.progress.total_steps:
                    row.progress = json.dumps(asdict(event.progress))
                self._record(session, row, event.kind, event.message, event.learning_rate, event.gradient_norm)
            return job_of(row)

        return self._told(await self._database.write(change))

    async def events(self, tenant: str, job: str, after: int, size: int = 256) -> tuple[list[Event], Job]:
        """At most `size` events behind sequence `after`, and the job at that moment.  Raises JOB_NOT_FOUND."""

        def query(session: Session) -> tuple[list[Event], Job]:
            row = _row(session, tenant, job)
            found = session.scalars(
                select(EventRow)
                .where(EventRow.tenant == tenant, EventRow.job == job, EventRow.sequence > after)
                .order_by(EventRow.sequence)
                .limit(size)
            )
            return [_event(event) for event in found], job_of(row)

        return await self._database.read(query)

    def _told(self, job: Job) -> Job:
        self._changed(job.job)
        return job

    def _move(self, session: Session, row: JobRow, state: State, message: str) -> None:
        if state not in MOVES[State(row.state)]:
            raise ValueError(f"a job does not go from {row.state} to {state}")
        now = self._now().timestamp()
        row.state = state.value
        if state is State.RUNNING and row.started_at is None:
            row.started_at = now
        if state.finished:
            row.ended_at = now
        self._record(session, row, EventKind.STATE, message)

    def _record(
        self,
        session: Session,
        row: JobRow,
        kind: EventKind,
        message: str = "",
        learning_rate: float = 0.0,
        gradient_norm: float = 0.0,
    ) -> None:
        row.sequence += 1
        session.add(
            EventRow(
                tenant=row.tenant,
                job=row.job,
                sequence=row.sequence,
                kind=kind.value,
                state=row.state,
                progress=row.progress,
                learning_rate=learning_rate,
                gradient_norm=gradient_norm,
                message=message,
                created_at=self._now().timestamp(),
            )
        )


def steps(rows: int, order: Order) -> int:
    """Steps that `rows` rows take; the training process corrects it when it leaves rows out."""
    settings = order.settings
    planned = settings.epochs * -(-rows // settings.batch_rows)
    return min(planned, settings.max_steps) if settings.max_steps else planned


def _row(session: Session, tenant: str, job: str, *, held: bool = False) -> JobRow:
    """Return the row; `held`: as it stays until the transaction ends, except for what the transaction does.

    PostgreSQL locks the row for that; SQLite, which knows no such lock, has one writer at a time.
    """
    row = session.get(JobRow, (tenant, job), with_for_update=held or None)
    if row is None:
        raise Failure(Reason.JOB_NOT_FOUND, name=job)
    return row


def job_of(row: JobRow) -> Job:
    """Return the row as the domain knows it."""
    order = json.loads(row.order)
    order["settings"] = settings_from(order["settings"])
    return Job(
        tenant=row.tenant,
        job=row.job,
        principal=row.principal,
        order=Order(**order),
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
    )


def _event(row: EventRow) -> Event:
    return Event(
        kind=EventKind(row.kind),
        state=State(row.state),
        progress=Progress(**json.loads(row.progress)),
        create_time=_time(row.created_at),
        learning_rate=row.learning_rate,
        gradient_norm=row.gradient_norm,
        message=row.message,
        sequence=row.sequence,
    )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
