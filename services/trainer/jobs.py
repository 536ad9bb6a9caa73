"""The verbs on jobs: every change of state is a row and an event in one transaction.

Invariant: who changes a job sees what everybody before it decided.
"""

from collections.abc import Awaitable, Callable, Set
from dataclasses import replace
from datetime import UTC, datetime

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.chassis.errors import Failure, Reason
from services.chassis.idempotency import IdempotencyKey, once
from services.trainer.data.dataset_rows import Dataset
from services.trainer.data.dataset_rows import find as find_dataset
from services.trainer.data.encoding import mismatch
from services.trainer.data.rows import Format
from services.trainer.job import Event, EventKind, Job, Move, Order, Progress, State
from services.trainer.job_rows import add, event_of, find, job_of, move, release, require_few, take_queue, tell
from services.trainer.settings import Objective
from services.trainer.store import EventRow, JobRow

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


def examples(dataset: Dataset, order: Order) -> int:
    """What the dataset's rows become, as far as its counts tell: a long text pieces, a pair two answers under KTO."""
    settings = order.settings
    if settings.objective is Objective.CONTINUED and dataset.max_row_tokens > settings.max_row_tokens > 1:
        # A piece repeats the last token of the one before it.
        return max(dataset.rows, -(-dataset.tokens // (settings.max_row_tokens - 1)))
    judged_pairs = settings.objective is Objective.KTO and dataset.format is Format.PREFERENCE
    return dataset.rows * (2 if judged_pairs else 1)


def steps(count: int, order: Order) -> int:
    """Steps that so many examples take; the training process corrects it when it leaves rows out."""
    settings = order.settings
    taken = min(count, settings.sample_rows) if settings.sample_rows else count
    if not order.validation_dataset:
        taken -= round(taken * settings.validation_ratio)
    planned = settings.epochs * -(-taken // settings.batch_rows)
    return min(planned, settings.max_steps) if settings.max_steps else planned


def step_tokens(dataset: Dataset, order: Order) -> float:
    """Tokens of a step, in the mean, as far as the dataset's counts tell."""
    settings, count = order.settings, examples(dataset, order)
    # Both sides of a pair go through the model, and each is cut by itself.
    sides = 2 if settings.objective is Objective.DPO else 1
    return min(settings.batch_rows, count) * min(dataset.tokens / max(1, count), sides * settings.max_row_tokens)


def settled_order(
    session: Session, tenant: str, order: Order, now: float, *, for_use: bool = True, within: str = ""
) -> tuple[Order, Dataset]:
    """The order with what only the tables know, and its dataset; it is queued at ``now`` (Unix seconds).

    `for_use`: the datasets stay while the job does; without it nothing is held, and a read will do.  `within` is where the
    order stands in its request.  Raises DATASET_NOT_FOUND, JOB_NOT_FOUND for one that is to be waited for, FIELD_INVALID
    for rows that the objective does not take, for a job that nothing can follow and for a deadline that has passed.
    """
    _require_future(order, now, f"{within}deadline")
    dataset = find_dataset(session, tenant, order.dataset, for_use=for_use)
    _require_fit(dataset, order, f"{within}dataset")
    settled = replace(
        order, dataset=dataset.key, dataset_digest=dataset.digest, step_tokens=step_tokens(dataset, order)
    )
    if order.validation_dataset:
        held_out = find_dataset(session, tenant, order.validation_dataset, for_use=for_use)
        _require_fit(held_out, order, f"{within}validation_dataset")
        settled = replace(settled, validation_dataset=held_out.key, validation_dataset_digest=held_out.digest)
    for name in order.depends_on:
        state = State(find(session, tenant, name).state)
        if state in (State.FAILED, State.CANCELLED):
            problem = f"the job {name} has {state.value}: nothing can follow it"
            raise Failure(Reason.FIELD_INVALID, field=f"{within}depends_on", problem=problem)
    return settled, dataset


def _require_future(order: Order, now: float, field: str) -> None:
    if order.deadline and order.deadline <= now:
        moment = f"{datetime.fromtimestamp(order.deadline, UTC):%Y-%m-%d %H:%M:%S} UTC"
        raise Failure(
            Reason.FIELD_INVALID, field=field, problem=f"{moment} has passed: give a later one, or leave it out"
        )


def _require_fit(dataset: Dataset, order: Order, field: str) -> None:
    """Rows of a template are made of records; all others must be of a format that the objective takes."""
    problem = mismatch(dataset.format, order.settings.objective)
    if problem and not (dataset.format is Format.RECORDS and order.recipe):
        raise Failure(Reason.FIELD_INVALID, field=field, problem=f"{dataset.key}: {problem}")
