"""Results of trained jobs, from the trainer that has them until the registry does; and what becomes of those that are lost.

A result lies on the disk of the trainer that trained its job.  That trainer says every so often that it has it; when it
has not for `lost_seconds`, its machine or its disk is taken to be gone, and the job is queued again: whoever trains it
goes on from what checkpoints it has, or begins anew, and comes to the same bits.
Invariant: a result is registered only under the lease under which it was trained, so that one which turns up again says
nothing for the job that is trained anew meanwhile.
"""

import json
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import update
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.trainer.job import Job, State
from services.trainer.job_rows import find, move, take_queue
from services.trainer.store import JobRow
from services.trainer.sweeping.sweep_rows import member_row
from services.trainer.work import ORDER, RESULT

# Who has a result says so several times in it.
_SILENT_SECONDS = 60.0


class Results:
    """The results in `folder`, the jobs' of one trainer.  `changed` is called with each job that is queued again."""

    def __init__(
        self,
        database: Database,
        folder: Path,
        lost_seconds: float,
        *,
        now: Callable[[], datetime],
        changed: Callable[[str], None],
    ) -> None:
        self._database = database
        self._folder = folder
        self._lost_seconds = lost_seconds
        self._now = now
        self._changed = changed

    def path(self, job: Job) -> Path:
        """Where the job's result lies, if it lies here."""
        return self._folder / job.job / RESULT

    def here(self, job: Job) -> bool:
        """Whether it does: the result of its newest lease."""
        try:
            order = json.loads((self._folder / job.job / ORDER).read_text())
        except FileNotFoundError:
            return False
        # Orders of earlier releases name none.
        return order.get("epoch", 0) in (0, job.lease.epoch) and self.path(job).exists()

    async def keep(self, jobs: Collection[str]) -> None:
        """Say that the results of these jobs are here."""

        def change(session: Session) -> None:
            take_queue(session)
            registering = update(JobRow).where(JobRow.job.in_(jobs), JobRow.state == State.REGISTERING.value)
            session.execute(registering.values(result_seen_at=self._now().timestamp()))

        if jobs:
            await self._database.write(change)

    def lost(self, job: Job) -> bool:
        """Whether nobody has said for long that the result is there."""
        return self._now().timestamp() - job.result_seen_at > self._lost_seconds

    def missed(self, job: Job) -> str:
        """What the owner of a job is told whose result is not here, once who has it is silent; empty before."""
        if self._now().timestamp() - job.result_seen_at <= _SILENT_SECONDS or not job.result_seen_at:
            return ""
        ends = datetime.fromtimestamp(job.result_seen_at + self._lost_seconds, UTC)
        return (
            "the trainer that has its result does not answer; the job is trained again if it has not come back by "
            f"{ends:%H:%M:%S} UTC"
        )

    async def train_again(self, job: Job) -> None:
        """Queue a job whose result is lost once more, unless somebody has said since that it is there."""

        def change(session: Session) -> bool:
            take_queue(session)
            row, now = find(session, job.tenant, job.job, locked=True), self._now().timestamp()
            if State(row.state) is not State.REGISTERING:
                return False
            if not row.result_seen_at:
                # An earlier release has it, or had: it says nothing, and is given the time.
                row.result_seen_at = now
            if now - row.result_seen_at <= self._lost_seconds:
                return False
            if member := member_row(session, job.tenant, job.job):
                member.trained = False
            move(
                session, row, State.QUEUED, "its result was lost with the trainer that had it; it is trained again", now
            )
            return True

        if await self._database.write(change):
            self._changed(job.job)
