"""The jobs in processes of this trainer, from their start until their process has let go of them.

Invariant: what a job needs in place (its base, its dataset) is kept for as long as it is held, and no longer.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

from services.trainer.job import Job, Move
from services.trainer.jobs import Jobs
from services.trainer.meter import Meter


@dataclass(slots=True)
class _Held:
    # What is kept in place for it.
    kept: AsyncExitStack
    # The lease under which it is ours.
    epoch: int
    # For whom it was told to give way.
    gives_way: str | None = None
    pauses: bool = False
    # Its process has read what it needs before its first step.
    prepared: bool = False


class Holding(Collection[str]):
    """The jobs, by name."""

    def __init__(self, jobs: Jobs, owner: str, meter: Meter, *, wake: Callable[[], None]) -> None:
        self._jobs = jobs
        self._owner = owner
        self._meter = meter
        self._wake = wake
        self._held: dict[str, _Held] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._held

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    async def take(self, job: Job, kept: AsyncExitStack) -> None:
        """Hold a job that was claimed, and what is kept in place for it."""
        if earlier := self._held.pop(job.job, None):
            await earlier.kept.aclose()
        self._held[job.job] = _Held(kept, job.lease.epoch)

    def outdated(self, name: str, epoch: int) -> bool:
        """Whether we have had the job under a later lease than this since."""
        held = self._held.get(name)
        return held is not None and epoch < held.epoch

    def without_lease(self, unfinished: Iterable[Job]) -> set[str]:
        """The jobs that this trainer holds but another has ended or taken, by the rows of the ``unfinished``."""
        ours = {job.job: job.lease.epoch for job in unfinished if job.lease.owner == self._owner}
        return {name for name, held in self._held.items() if ours.get(name) != held.epoch}

    def pauses(self, name: str) -> None:
        """Note that the job was told to pause."""
        self._held[name].pauses = True

    def pausing(self) -> set[str]:
        """The jobs that were told to pause."""
        return {name for name, held in self._held.items() if held.pauses}

    def prepared(self, name: str) -> None:
        """Note that the job's process has read what it needs before its first step; no error when it is not held."""
        if held := self._held.get(name):
            held.prepared = True

    def unprepared(self) -> set[str]:
        """The jobs whose processes have yet to."""
        return {name for name, held in self._held.items() if not held.prepared}

    def gives_way(self, name: str, why: str) -> None:
        """Note that the job was told to give way, and for whom."""
        self._held[name].gives_way = why

    def giving_way(self) -> dict[str, str]:
        """The jobs that were told to give way, and for whom."""
        return {name: held.gives_way for name, held in self._held.items() if held.gives_way is not None}

    async def settle(self, job: Job, choose: Callable[[Job], Move | None]) -> Job:
        """Move a job that no process of ours holds any more, and let go of it."""
        job = await self._jobs.decide(job, choose, holder=self._owner)
        await self.release(job.job)
        return job

    async def release(self, name: str) -> None:
        """Let go of a job and of what was kept in place for it; no error when it is not held."""
        held = self._held.pop(name, None)
        self._meter.left(name)
        if held:
            await held.kept.aclose()
        self._wake()
