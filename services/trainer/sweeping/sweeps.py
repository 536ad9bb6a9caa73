"""The verbs on sweeps.

Invariant: a sweep that was acknowledged comes to its end whatever is killed in between: all that a decision needs is in
rows, and deciding again what was decided changes nothing.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.chassis.errors import Failure, Reason
from services.chassis.idempotency import IdempotencyKey, once
from services.trainer.job import Job, State
from services.trainer.job_rows import find as find_job
from services.trainer.job_rows import job_of, move, require_few, take_queue
from services.trainer.settling import examples, settled_order, steps
from services.trainer.store import JobRow, SweepMemberRow, SweepRow
from services.trainer.sweeping.record import lineage, require_sound
from services.trainer.sweeping.settling import cancelled, settle
from services.trainer.sweeping.sweep import Asked, Sweep, SweepState, paced
from services.trainer.sweeping.sweep_rows import (
    Created,
    apply,
    change,
    create,
    find,
    member_of,
    member_row,
    next_hold,
    sweep_of,
)

# Of a member that trains or is about to, nothing is to be decided.
_UNDER_WAY = frozenset({State.QUEUED, State.RUNNING})


class Sweeps:
    """The verbs.

    `admit` raises what speaks against taking on more jobs; `changed` is called with a job's id after every commit that
    concerns it.  A tenant has at most `most_unfinished` jobs that have not ended, members among them.
    """

    def __init__(
        self,
        database: Database,
        *,
        now: Callable[[], datetime],
        new_id: Callable[[], str],
        admit: Callable[[], Awaitable[object]],
        most_unfinished: int,
        changed: Callable[[str], None],
    ) -> None:
        self._database = database
        self._now = now
        self._new_id = new_id
        self._admit = admit
        self._most_unfinished = most_unfinished
        self._changed = changed
        # The members' last events that a settlement knew of, by sweep: without others there is nothing to settle.
        self._seen: dict[tuple[str, str], tuple[int, ...]] = {}

    async def create(self, tenant: str, principal: str, asked: Asked, key: IdempotencyKey) -> Sweep:
        """Queue all members.

        Raises FIELD_INVALID for members that cannot be compared and a table that no version could keep, and as `Jobs.create`.
        """
        require_sound(asked)
        await self._admit()

        def queue(session: Session) -> str:
            require_few(session, tenant, len(asked.orders), self._most_unfinished)
            name = self._new_id()
            created = []
            for asked_order, point in zip(asked.orders, asked.points, strict=True):
                own, dataset = settled_order(session, tenant, asked_order, self._seconds(), within="job.")
                total = steps(examples(dataset, own), own)
                paced_settings, holds = paced(own.settings, asked.rungs, total)
                settled = replace(own, settings=paced_settings, sweep=name)
                created.append(Created(self._new_id(), settled, point, total, holds))
            return create(session, tenant, name, principal, asked, created, self._seconds()).sweep

        def write(session: Session) -> Sweep:
            take_queue(session)
            return sweep_of(session, find(session, tenant, once(session, key, lambda: queue(session))))

        sweep = await self._database.write(write)
        self._tell([member.job.job for member in sweep.members])
        return sweep

    async def get(self, tenant: str, sweep: str) -> Sweep:
        """Return a sweep.  Raises SWEEP_NOT_FOUND."""
        return await self._database.read(lambda session: sweep_of(session, find(session, tenant, sweep)))

    async def page(self, tenant: str, size: int, after: tuple[float, str] | None) -> list[Sweep]:
        """At most `size` sweeps, newest first, from behind `after` (creation time, id)."""
        query = select(SweepRow).where(SweepRow.tenant == tenant)
        if after is not None:
            query = query.where(tuple_(SweepRow.created_at, SweepRow.sweep) < after)
        query = query.order_by(SweepRow.created_at.desc(), SweepRow.sweep.desc()).limit(size)
        return await self._database.read(lambda session: [sweep_of(session, row) for row in session.scalars(query)])

    async def cancel(self, tenant: str, sweep: str) -> Sweep:
        """End a sweep and its members.  Raises SWEEP_NOT_FOUND, SWEEP_FINISHED; cancelling twice is no error."""

        def write(session: Session) -> tuple[Sweep, list[str]]:
            take_queue(session)
            row = find(session, tenant, sweep, locked=True)
            found = sweep_of(session, row, locked=True)
            if found.state is SweepState.CANCELLED:
                return found, []
            # Trained and on its way into the registry: what is acknowledged there cannot be taken back from here.
            if found.state.finished or found.registering:
                state = found.state.value if found.state.finished else "its best member is being registered"
                raise Failure(Reason.SWEEP_FINISHED, name=sweep, state=state)
            changed = change(session, row, cancelled(found), self._seconds())
            row.state, row.ended_at, row.message = SweepState.CANCELLED.value, self._seconds(), "cancelled on request"
            return sweep_of(session, row), changed

        found, changed = await self._database.write(write)
        self._tell(changed)
        return found

    async def hold_step(self, job: Job) -> int:
        """The step at which the job is to wait for others; 0 for a job of no sweep, or one that may go to its end."""
        if not job.order.sweep:
            return 0

        def read(session: Session) -> int:
            member = member_row(session, job.tenant, job.job)
            return next_hold(member) if member is not None else 0

        return await self._database.read(read)

    async def why_wait(self, jobs: Sequence[Job]) -> Mapping[str, str]:
        """What the owner of members is told, by job: of those that wait for the others of their sweep.

        Such a member takes no part in the plan, which therefore says nothing of it.
        """
        waiting = {job.job: job for job in jobs if job.order.sweep and job.state is State.PAUSED}
        if not waiting:
            return {}
        tenants = {job.tenant for job in waiting.values()}
        query = select(SweepMemberRow).where(SweepMemberRow.tenant.in_(tenants), SweepMemberRow.job.in_(waiting.keys()))
        rows = await self._database.read(lambda session: list(session.scalars(query)))
        return {row.job: member_of(row, waiting[row.job]).why_waits for row in rows}

    async def left(self, job: Job, *, trained: bool) -> Job:
        """Let a member wait that its process let go of: at its rung, or `trained`, with its result on disk.

        A member that stopped short of its rung stays as it is, and so does one whose end was asked for.  `settle` decides
        how it goes on.  Returns the job as it is afterwards.
        """

        def write(session: Session) -> Job:
            found = find_job(session, job.tenant, job.job, locked=True)
            member = member_row(session, job.tenant, job.job)
            ours = found.lease_epoch == job.lease.epoch and State(found.state) in (State.RUNNING, State.PAUSING)
            if member is not None and ours:
                self._wait(session, found, member, trained=trained)
            return job_of(found)

        left = await self._database.write(write)
        self._tell([left.job])
        return left

    async def settle(self) -> None:
        """Decide what is due in any sweep of which something has become of a member since."""
        events = await self._database.read(_last_events)
        self._seen = {name: seen for name, seen in self._seen.items() if name in events}
        for name, now in events.items():
            if self._seen.get(name) != now:
                self._tell(await self._database.write(partial(self._settled, name=name)))
                self._seen[name] = now

    async def lineage(self, job: Job) -> dict[str, object]:
        """What the version of a job keeps of its sweep, fit for JSON; nothing for a job of none."""
        return {"sweep": lineage(await self.get(job.tenant, job.order.sweep))} if job.order.sweep else {}

    def _settled(self, session: Session, name: tuple[str, str]) -> list[str]:
        take_queue(session)
        row = find(session, *name, locked=True)
        settlement = settle(sweep_of(session, row, locked=True))
        return apply(session, row, settlement, self._seconds()) if settlement is not None else []

    def _wait(self, session: Session, job: JobRow, member: SweepMemberRow, *, trained: bool) -> None:
        member.trained = member.trained or trained
        hold = next_hold(member)
        if trained:
            where = "trained"
        elif 0 < hold <= job_of(job).progress.step:
            where = f"at rung {member.released + 1}, step {hold}"
        else:
            return
        move(session, job, State.PAUSED, f"{where}; waits for the other members of its sweep", self._seconds())

    def _tell(self, jobs: list[str]) -> None:
        for job in jobs:
            self._changed(job)

    def _seconds(self) -> float:
        return self._now().timestamp()


def _last_events(session: Session) -> dict[tuple[str, str], tuple[int, ...]]:
    """The last event of each member of every running sweep, in their order; 0 for one that is under way."""
    query = (
        select(SweepMemberRow.tenant, SweepMemberRow.sweep, JobRow.state, JobRow.sequence)
        .join(JobRow, (JobRow.tenant == SweepMemberRow.tenant) & (JobRow.job == SweepMemberRow.job))
        .join(SweepRow, (SweepRow.tenant == SweepMemberRow.tenant) & (SweepRow.sweep == SweepMemberRow.sweep))
        .where(SweepRow.state == SweepState.RUNNING.value)
        .order_by(SweepMemberRow.tenant, SweepMemberRow.sweep, SweepMemberRow.position)
    )
    found: dict[tuple[str, str], list[int]] = {}
    for tenant, sweep, state, sequence in session.execute(query):
        found.setdefault((tenant, sweep), []).append(0 if State(state) in _UNDER_WAY else sequence)
    return {name: tuple(events) for name, events in found.items()}
