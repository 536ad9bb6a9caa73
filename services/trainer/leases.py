"""Who trains which job: leases with fencing epochs.

Invariants: a job has one holder at a time; every lease has a higher epoch than the one before, and whatever comes
under a lower one changes nothing; and no lease is taken that gives a tenant more than it may have at once.  A holder that
is alive renews; one that is dead is known at once on its own machine, elsewhere by the lease's end.
"""

import json
from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from services.chassis import process_identity
from services.chassis.database import Database
from services.trainer.job import EventKind, Job, State
from services.trainer.job_rows import find, job_of, move, release, take_queue, tell
from services.trainer.planning import Allowance, needs
from services.trainer.scheduling.limits import allows
from services.trainer.scheduling.state import Priority
from services.trainer.store import JobRow, UsageRow

_UNLIMITED = Allowance()


def may_be_alive(owner: str) -> bool:
    """Whether a holder may still be at work; of one on another machine only its lease's end says that it is not."""
    return process_identity.is_alive_here(owner) or not process_identity.is_here(owner)


class Leases:
    """The leases of one trainer, `owner`, each for `seconds` unless it is renewed."""

    def __init__(
        self,
        database: Database,
        owner: str,
        seconds: float,
        *,
        now: Callable[[], datetime],
        changed: Callable[[str], None],
    ) -> None:
        self._database = database
        self.owner = owner
        self.seconds = seconds
        self._now = now
        self._changed = changed

    async def claim(self, job: Job, nodes: Sequence[str], granted: Allowance = _UNLIMITED) -> Job | None:
        """Take the job as it was planned with (its epoch) and say that it trains.

        None when it is another's by now, or when what another trainer has taken meanwhile leaves it no room in what its
        tenant was ``granted``.
        """

        def change(session: Session) -> Job | None:
            take_queue(session)
            row = find(session, job.tenant, job.job, locked=True)
            state, now = State(row.state), self._now().timestamp()
            if row.lease_epoch != job.lease.epoch or state not in (State.QUEUED, State.RUNNING) or self._held(row, now):
                return None
            if not _allowed(session, job, granted, now):
                return None
            row.lease_owner, row.lease_epoch = self.owner, row.lease_epoch + 1
            row.lease_expires_at, row.lease_since = now + self.seconds, now
            row.lease_nodes = json.dumps(list(nodes))
            row.attempts += 1
            _note_start(session, row.tenant, job.order.priority, now)
            if state is State.QUEUED:
                move(session, row, State.RUNNING, "training", now)
            else:
                tell(session, row, EventKind.MESSAGE, now, message="training again")
            return job_of(row)

        claimed = await self._database.write(change)
        if claimed is not None:
            self._changed(claimed.job)
        return claimed

    async def renew(self) -> None:
        """Hold on to everything that is ours for another while."""

        def change(session: Session) -> None:
            take_queue(session)
            until = self._now().timestamp() + self.seconds
            session.execute(update(JobRow).where(JobRow.lease_owner == self.owner).values(lease_expires_at=until))

        await self._database.write(change)

    async def give_up(self, job: Job) -> None:
        """Let go of a job that stays as it is, to be taken up again by whoever plans next."""

        def change(session: Session) -> None:
            row = find(session, job.tenant, job.job, locked=True)
            if row.lease_owner == self.owner and row.lease_epoch == job.lease.epoch:
                release(row)

        await self._database.write(change)

    def holds(self, job: Job) -> bool:
        """Whether somebody else may be at work on the job, or we are."""
        now = self._now().timestamp()
        return job.lease.held(now) and may_be_alive(job.lease.owner)

    def _held(self, row: JobRow, now: float) -> bool:
        return bool(row.lease_owner) and row.lease_expires_at > now and may_be_alive(row.lease_owner)


def _allowed(session: Session, job: Job, granted: Allowance, now: float) -> bool:
    """Whether the tenant may hold the job beside those that it holds; whoever has the queue's turn sees all of them."""
    quota = granted.quota
    if quota.concurrent_jobs is None and quota.resident_bytes is None:
        return True
    beside = select(JobRow).where(
        JobRow.tenant == job.tenant,
        JobRow.job != job.job,
        JobRow.lease_owner != "",
        JobRow.lease_expires_at > now,
        JobRow.state.in_([state.value for state in State if state.holds_child]),
    )
    # Threads are nobody's limit.
    held = [needs(job_of(row), 1) for row in session.scalars(beside)]
    return allows(quota, needs(job, 1), held)


def _note_start(session: Session, tenant: str, priority: Priority, now: float) -> None:
    """Remember when a job of the class was last started: what waits in a class ages only while none of it starts."""
    row = session.get(UsageRow, tenant, with_for_update=True)
    if row is None:
        row = UsageRow(tenant=tenant, used_seconds=0.0, used_at=now, window_tokens=0, window_at=now, started="{}")
        session.add(row)
    row.started = json.dumps({**json.loads(row.started), str(int(priority)): now})
