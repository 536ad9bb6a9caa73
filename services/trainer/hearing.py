"""Hear what becomes of the jobs in processes of ours, store it, and settle the jobs that processes let go of.

Invariant: what was heard is with nobody else and is not said again, so it is stored before the trainer stops.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

from services.chassis.errors import Reason
from services.chassis.logs import Log
from services.trainer import checkpoints, moves
from services.trainer.executors.executor import Executor, Lost, News
from services.trainer.holding import Holding
from services.trainer.job import Job, Move
from services.trainer.jobs import Jobs
from services.trainer.meter import Meter
from services.trainer.outages import Patience
from services.trainer.reports import Report, Reports
from services.trainer.sweeping.sweeps import Sweeps
from services.trainer.terms import Limits
from services.trainer.texts import fit
from services.trainer.work import CHECKPOINTS, LAST, Line, Said

# For the last words of processes, when the trainer stops: it does not wait for a database that is away longer.
_PARTING_SECONDS = 10.0


class Hearing:
    """Takes in what the executor's processes say."""

    def __init__(
        self,
        jobs: Jobs,
        reports: Reports,
        executor: Executor,
        sweeps: Sweeps,
        holding: Holding,
        *,
        folder: Path,
        limits: Limits,
        kept_seconds: float,
        postpone: Callable[[str, int, str], None],
        patiently: Patience,
        meter: Meter,
        log: Log,
    ) -> None:
        self._jobs = jobs
        self._reports = reports
        self._executor = executor
        self._sweeps = sweeps
        self._holding = holding
        self._folder = folder
        self._limits = limits
        # So long the checkpoints of a job that ended are kept.
        self._kept_seconds = kept_seconds
        # With a job's name, how often in a row it was lost, and why for its owner.
        self._postpone = postpone
        self._patiently = patiently
        self._meter = meter
        self._log = log
        # What was heard and is being stored.
        self._taking: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Listen until cancelled; call :meth:`finish` then."""
        while True:
            self._taking = asyncio.create_task(self.take(await self._executor.news()))
            # The end of the trainer does not cut it short: what was heard is with nobody else, and is not said again.
            await asyncio.shield(self._taking)

    async def finish(self) -> None:
        """Store what was heard last, and what processes said on their way out: their last steps and checkpoints.

        Checkpoints remember what was said of their last steps, so what is not stored now is said again.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(_PARTING_SECONDS):
                if self._taking is not None:
                    await asyncio.wait({self._taking})
                await self.take(self._executor.left())
        if self._taking is not None:
            self._taking.cancel()

    async def take(self, heard: Iterable[News]) -> None:
        """Store what was heard, in order; settle the jobs that processes let go of."""
        reports: list[Report] = []
        for news in heard:
            if self._holding.outdated(news.job, news.epoch):
                continue
            if isinstance(news, Report):
                self._meter.hear(news)
                if news.line.said is Said.STARTED:
                    self._holding.prepared(news.job)
            if isinstance(news, Report) and news.line.said not in LAST:
                reports.append(news)
                continue
            await self._store(reports)
            reports = []
            settle = partial(self.lost, news) if isinstance(news, Lost) else partial(self._last, news)
            await self._patiently(settle)
        await self._store(reports)

    async def lost(self, lost: Lost) -> None:
        """Settle a job whose process is gone without a last word."""
        job = await self._jobs.get(lost.tenant, lost.job)
        if job.lease.epoch != lost.epoch:
            await self._holding.release(lost.job)
            return
        self._log.warning("process_lost", job=job.job, how=lost.how, crashes=job.crashes + 1)
        self._meter.lost()
        # Before it is let go: whoever plans next finds it already.
        self._postpone(job.job, job.crashes + 1, f"its process was lost ({fit(lost.how)})")
        await self._holding.settle(job, lambda now: moves.lost(now, lost.how, self._limits.max_crashes))

    async def lose_lease(self, name: str) -> None:
        """Let go of a job that another trainer has ended or taken, and end its process."""
        self._log.warning("lease_lost", job=name)
        await self._executor.drop(name)
        await self._holding.release(name)

    async def _store(self, reports: list[Report]) -> None:
        if reports:
            for name in await self._patiently(partial(self._reports.store, reports)):
                await self.lose_lease(name)

    async def _last(self, report: Report) -> None:
        line = report.line
        if line.said is Said.LOST:
            await self.lost(Lost(report.tenant, report.job, report.epoch, line.message))
            return
        gave_way = self._holding.giving_way().get(report.job, "")
        job = await self._jobs.get(report.tenant, report.job)
        if job.lease.epoch != report.epoch:
            await self._holding.release(report.job)
            return
        self._log.info("job_left", job=job.job, said=line.said.value, reason=line.reason)
        if job.order.sweep and line.said is not Said.REFUSED:
            job = await self._sweeps.left(job, trained=line.said is Said.DONE)
            await self._holding.settle(job, lambda now: moves.stopped(now, gave_way))
        elif line.said is Said.DONE:
            await self._holding.settle(job, moves.trained)
        elif line.said is Said.REFUSED:
            await self._holding.settle(job, await self._refusal(job, line))
        else:
            await self._holding.settle(job, lambda now: moves.stopped(now, gave_way))

    async def _refusal(self, job: Job, line: Line) -> Callable[[Job], Move | None]:
        if line.reason != Reason.TRAINING_DIVERGED.name:
            return lambda now: moves.refuse(now, line.reason, line.message)
        kept = await asyncio.to_thread(checkpoints.kept, self._folder / job.job / CHECKPOINTS)
        steps = [checkpoint.progress.step for checkpoint in kept]
        return lambda now: moves.diverged(now, line, steps, self._kept_seconds)
