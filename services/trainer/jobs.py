"""The verbs on jobs: every change of state is a row and an event in one transaction.

Invariant: who changes a job sees what everybody before it decided.
"""

import json
from collections.abc import Awaitable, Callable, Mapping, Set
from dataclasses import asdict, replace
from datetime import datetime

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.chassis.errors import Failure, Reason
from services.chassis.idempotency import IdempotencyKey, once
from services.trainer.job import Event, EventKind, Job, Move, Order, Progress, State
from services.trainer.job_rows import (
    add,
    event_of,
    find,
    job_of,
    move,
    order_from,
    release,
    require_few,
    take_queue,
    tell,
)
from services.trainer.settling import examples, settled_order, steps
from services.trainer.store import EventRow, JobRow

_MOST_LABELS = 64
# As many are looked at for how fast jobs train here.
_RECENT_JOBS = 200

Changed = Callable[[str], None]
Admit = Callable[[], Awaitable[object]]


class Jobs:
    """The verbs.

    `admit` raises what speaks against taking on another job; `changed` is called with a job's id after every commit
    that concerns it, `ended` with a job that has ended by one.  A tenant has at most `most_unfinished` that have not.
    """

    def __init__(
        self,
        database: Database,
        *,
        now: Callable[[], datetime],
        new_id: Callable[[], str],
        admit: Admit,
        most_unfinished: int,
        changed: Changed,
        ended: Callable[[Job], None] = lambda _: None,
    ) -> None:
        self._database = database
        self._ended = ended
        self.admit = admit
        self.most_unfinished = most_unfinished
        self._now = now
        self._new_id = new_id
        self._changed = changed

    async def create(self, tenant: str, principal: str, order: Order, key: IdempotencyKey) -> Job:
        """Queue a job.

        Raises DATASET_NOT_FOUND, JOB_NOT_FOUND, JOBS_EXHAUSTED, FIELD_INVALID, DISK_FULL, REQUEST_ID_REUSED.
        """
        await self.admit()

        def queue(session: Session) -> str:
            require_few(session, tenant, 1, self.most_unfinished)
            settled, dataset = settled_order(session, tenant, order, self._seconds())
            progress = Progress(total_steps=steps(examples(dataset, settled), settled))
            row = add(session, tenant, self._new_id(), principal, settled, progress, self._seconds())
            return row.job

        def change(session: Session) -> Job:
            take_queue(session)
            job = once(session, key, lambda: queue(session))
            return job_of(find(session, tenant, job))

        return self._told(await self._database.write(change))

    async def get(self, tenant: str, job: str) -> Job:
        """Return a job.  Raises JOB_NOT_FOUND."""
        return await self._database.read(lambda session: job_of(find(session, tenant, job)))

    async def page(self, tenant: str, size: int, after: tuple[float, str] | None, behind: str = "") -> list[Job]:
        """At most `size` jobs, newest first, from behind `after` (creation time, id), or from behind the job `behind`.

        Raises JOB_NOT_FOUND for the latter.
        """

        def query(session: Session) -> list[Job]:
            begin = (find(session, tenant, behind).created_at, behind) if behind else after
            found = select(JobRow).where(JobRow.tenant == tenant)
            if begin is not None:
                found = found.where(tuple_(JobRow.created_at, JobRow.job) < begin)
            found = found.order_by(JobRow.created_at.desc(), JobRow.job.desc()).limit(size)
            return [job_of(row) for row in session.scalars(found)]

        return await self._database.read(query)

    async def unfinished(self) -> list[Job]:
        """Every tenant's jobs that have not ended, in the order in which they were queued."""
        states = [state.value for state in State if not state.finished]
        query = select(JobRow).where(JobRow.state.in_(states)).order_by(JobRow.queued_at, JobRow.job)
        return await self._database.read(lambda session: [job_of(row) for row in session.scalars(query)])

    async def recent(self) -> list[Job]:
        """The newest jobs of all tenants, ended or not, for what they measured."""
        query = select(JobRow).order_by(JobRow.created_at.desc()).limit(_RECENT_JOBS)
        return await self._database.read(lambda session: [job_of(row) for row in session.scalars(query)])

    async def states(self, names: Set[str]) -> dict[str, State]:
        """How these jobs stand, by id; one that is not there is left out."""
        if not names:
            return {}
        query = select(JobRow.job, JobRow.state).where(JobRow.job.in_(names))
        return await self._database.read(lambda session: {job: State(state) for job, state in session.execute(query)})

    async def ended(self, names: Set[str]) -> dict[str, tuple[State, float] | None]:
        """Of these ids those that belong to no job which has yet to end: how and when (Unix seconds), None for no job."""
        query = select(JobRow.job, JobRow.state, JobRow.ended_at).where(JobRow.job.in_(names))
        found = await self._database.read(
            lambda session: {job: (State(state), ended_at or 0.0) for job, state, ended_at in session.execute(query)}
        )
        return {name: found.get(name) for name in names if name not in found or found[name][0].finished}

    async def label(self, tenant: str, job: str, labels: Mapping[str, str]) -> Job:
        """Write labels on a job; one with an empty value is taken away.  Raises JOB_NOT_FOUND, FIELD_INVALID."""

        def change(session: Session) -> Job:
            row = find(session, tenant, job, locked=True)
            order = order_from(json.loads(row.order))
            kept = {name: value for name, value in order.labels if name not in labels}
            written = kept | {name: value for name, value in labels.items() if value}
            if len(written) > _MOST_LABELS:
                problem = f"the job would have {len(written)}, at most {_MOST_LABELS} fit: take some away"
                raise Failure(Reason.FIELD_INVALID, field="labels", problem=problem)
            row.order = json.dumps(asdict(replace(order, labels=tuple(sorted(written.items())))))
            return job_of(row)

        return await self._database.write(change)

    async def cancel(self, tenant: str, job: str) -> Job:
        """Ask for the end of a job.  Raises JOB_NOT_FOUND, JOB_FINISHED; cancelling twice is no error."""

        def change(session: Session) -> tuple[Job, bool]:
            row = find(session, tenant, job, locked=True)
            state = State(row.state)
            if state in (State.CANCELLED, State.CANCELLING):
                return job_of(row), False
            # Trained and on its way into the registry: what is acknowledged there cannot be taken back from here, and what
            # was sent may be acknowledged when nobody hears of it.
            if state.finished or state is State.REGISTERING:
                raise _too_far(row)
            wanted = State.CANCELLING if state.holds_child else State.CANCELLED
            move(session, row, wanted, "cancelled on request", self._seconds())
            return job_of(row), wanted.finished

        return await self._ended_or_not(change)

    async def pause(self, tenant: str, job: str) -> Job:
        """Ask a job to stop after its step.  Raises JOB_NOT_FOUND, JOB_FINISHED; pausing twice is no error."""

        def change(session: Session) -> Job:
            row = find(session, tenant, job, locked=True)
            state = State(row.state)
            if state in (State.PAUSED, State.PAUSING):
                return job_of(row)
            if state not in (State.QUEUED, State.RUNNING):
                raise _too_far(row)
            wanted = State.PAUSING if state.holds_child else State.PAUSED
            move(session, row, wanted, "paused on request", self._seconds())
            return job_of(row)

        return self._told(await self._database.write(change))

    async def resume(self, tenant: str, job: str) -> Job:
        """Queue a paused job again, behind those that wait.  Raises JOB_NOT_FOUND, JOB_NOT_PAUSED."""

        def change(session: Session) -> Job:
            row = find(session, tenant, job, locked=True)
            if State(row.state) is not State.PAUSED:
                raise Failure(Reason.JOB_NOT_PAUSED, name=job, state=row.state)
            row.queued_at = self._seconds()
            move(session, row, State.QUEUED, "queued again", self._seconds())
            return job_of(row)

        return self._told(await self._database.write(change))

    async def decide(self, job: Job, choose: Callable[[Job], Move | None], *, holder: str = "") -> Job:
        """Let `choose` look at the job as it is now and move it, in one transaction with nobody in between.

        With ``holder``, only while it holds the job under the lease that ``job`` has, and it holds it no more afterwards:
        so a repeat, by who did not hear what became of the first, changes nothing.  Returns the job as it is afterwards.
        Raises ValueError for a move that is none.
        """

        def change(session: Session) -> tuple[Job, bool]:
            row = find(session, job.tenant, job.job, locked=True)
            if holder and (row.lease_owner, row.lease_epoch) != (holder, job.lease.epoch):
                return job_of(row), False
            before = State(row.state)
            chosen = choose(job_of(row))
            if holder:
                release(row)
            if chosen is not None:
                for name, value in chosen.columns.items():
                    setattr(row, name, value)
                if chosen.state is before:
                    tell(session, row, EventKind.MESSAGE, self._seconds(), message=chosen.message)
                else:
                    move(session, row, chosen.state, chosen.message, self._seconds())
            now = job_of(row)
            return now, now.state.finished and not before.finished

        return await self._ended_or_not(change)

    async def events(self, tenant: str, job: str, after: int, size: int = 256) -> tuple[list[Event], Job]:
        """At most `size` events behind sequence `after`, and the job at that moment.  Raises JOB_NOT_FOUND."""

        def query(session: Session) -> tuple[list[Event], Job]:
            row = find(session, tenant, job)
            found = session.scalars(
                select(EventRow)
                .where(EventRow.tenant == tenant, EventRow.job == job, EventRow.sequence > after)
                .order_by(EventRow.sequence)
                .limit(size)
            )
            return [event_of(event) for event in found], job_of(row)

        return await self._database.read(query)

    async def past(self, tenant: str, job: str, before: int, size: int) -> list[Event]:
        """At most `size` events below sequence `before` (0: from the newest), newest first.  Raises JOB_NOT_FOUND."""

        def query(session: Session) -> list[Event]:
            find(session, tenant, job)
            found = select(EventRow).where(EventRow.tenant == tenant, EventRow.job == job)
            if before:
                found = found.where(EventRow.sequence < before)
            return [event_of(row) for row in session.scalars(found.order_by(EventRow.sequence.desc()).limit(size))]

        return await self._database.read(query)

    async def _ended_or_not(self, change: Callable[[Session], tuple[Job, bool]]) -> Job:
        """The job that `change` returns; it also says whether the job has ended by it."""
        job, ended = await self._database.write(change)
        if ended:
            self._ended(job)
        return self._told(job)

    def _told(self, job: Job) -> Job:
        self._changed(job.job)
        return job

    def _seconds(self) -> float:
        return self._now().timestamp()


def _too_far(row: JobRow) -> Failure:
    """That the job can be neither cancelled nor paused any more, and what to do instead."""
    remedy = ""
    if State(row.state) is State.REGISTERING:
        remedy = (
            " It is trained, takes no part of the machine, and its version may be in the registry already: let the job "
            "end, however long the registry is away, and delete the version if it is not wanted."
        )
    return Failure(Reason.JOB_FINISHED, name=row.job, state=row.state, remedy=remedy)
