"""Carry out the scheduler's plan: give jobs to the executor, and do to them what people ask.

Invariant: what a job's row says is never ahead of what is on disk; so a trainer killed at any point finds, when it
starts again, jobs that it can go on with.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from services.chassis.errors import Failure, Reason
from services.chassis.files import disk_full_named
from services.chassis.logs import Log
from services.trainer import moves
from services.trainer.aside import Aside
from services.trainer.errands import PASSING, Errands, Prerequisite
from services.trainer.executors.executor import Executor, Lost, Training
from services.trainer.hearing import Hearing
from services.trainer.holding import Holding
from services.trainer.job import Job, Order, State
from services.trainer.jobs import Jobs
from services.trainer.leases import Leases
from services.trainer.meter import Meter
from services.trainer.outages import Patience
from services.trainer.planning import Allowance, Seen, allowance_of, gang_unfit, needs, state_of, unfit
from services.trainer.remains import Remains
from services.trainer.reports import Reports
from services.trainer.scheduling.actions import Action, Drop, Go, Hold, Planned, Preempt, Start, Unfit, Verdict
from services.trainer.scheduling.choosing import Share
from services.trainer.scheduling.limits import tokens_left
from services.trainer.scheduling.planning import plan
from services.trainer.scheduling.state import Node
from services.trainer.scheduling.state import State as Snapshot
from services.trainer.speeds import Kind, speeds
from services.trainer.store import UsageRow
from services.trainer.sweeping.sweeps import Sweeps
from services.trainer.terms import Granted, Limits, Wake
from services.trainer.work import ORDER, Work

# How often processes are told what tenants have used and may still use.
_SHARE_SECONDS = 2.0
# How often it is looked up what recent jobs measured.
_SPEED_SECONDS = 30.0


class Runner:
    """Keeps as many jobs training as the plan allows, and runs their errands beside it."""

    def __init__(
        self,
        jobs: Jobs,
        leases: Leases,
        reports: Reports,
        executor: Executor,
        errands: Errands,
        sweeps: Sweeps,
        remains: Remains,
        *,
        folder: Path,
        needed: Prerequisite,
        work: Callable[[Job], AbstractAsyncContextManager[Work]],
        limits: Limits,
        wake: Wake,
        granted: Granted,
        meter: Meter,
        log: Log,
    ) -> None:
        self._jobs = jobs
        self._leases = leases
        self._reports = reports
        self._executor = executor
        self._errands = errands
        self._sweeps = sweeps
        self._remains = remains
        self._folder = folder
        self._work = work
        self._limits = limits
        self._granted = granted
        self._meter = meter
        self._log = log
        self._patiently = Patience(limits.plan_seconds, log)
        self._wake = wake
        self.holding = Holding(jobs, leases.owner, meter, wake=wake)
        self.hearing = Hearing(
            jobs,
            reports,
            executor,
            sweeps,
            self.holding,
            folder=folder,
            limits=limits,
            kept_seconds=remains.retention.seconds,
            postpone=self._postpone,
            patiently=self._patiently,
            meter=meter,
            log=log,
        )
        self._aside = Aside(needed, errands)
        self._shared_at = 0.0
        self._measured_at = 0.0
        self._speeds: Mapping[Kind, float] = {}
        self._unended: frozenset[str] = frozenset()
        self.verdicts: dict[str, Verdict] = {}

    def allowance(self, tenant: str) -> Allowance:
        """What the tenant is granted here."""
        return allowance_of(tenant, self._granted.allowances)

    def misfit(self, tenant: str, order: Order) -> str:
        """Why the order could never be trained here, with the arithmetic; empty when it could."""
        return unfit(order, self.nodes(), self.allowance(tenant), gangs=self._executor.gangs)

    def require_fit(self, tenant: str, order: Order) -> Order:
        """Return the order.  Raises SETTINGS_UNFIT for one that could never be trained here."""
        if problem := self.misfit(tenant, order):
            raise Failure(Reason.SETTINGS_UNFIT, problem=problem)
        return order

    def nodes(self) -> Sequence[Node]:
        """The machines that train."""
        return self._executor.nodes()

    async def run(self) -> None:
        """Work until cancelled; then every process writes a checkpoint and ends."""
        try:
            async with self._executor.at_work(), asyncio.TaskGroup() as group:
                group.create_task(self.hearing.run())
                group.create_task(self._renew())
                async with self._errands.running(group):
                    while True:
                        await self._patiently(self._look)
                        await self._wake.wait(self._limits.plan_seconds)
        finally:
            await self.hearing.finish()

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._leases.seconds / 3)
            await self._patiently(self._leases.renew)
            await self._patiently(self._errands.keep_results)

    async def _look(self) -> None:
        """See how things stand, and do what the plan says."""
        await self._sweeps.settle()
        jobs = await asyncio.to_thread(self._with_threads, await self._unfinished())
        # A process at rest sends no report from which the trainer would learn that the lease is lost.
        for name in self.holding.without_lease(jobs):
            await self.hearing.lose_lease(name)
        # Whatever ended them (a cancellation while paused, a trainer that was killed) wakes us, or comes before a start.
        await self._remains.clear({*(job.job for job in jobs), *self.holding})
        await self._obey(jobs)
        by_name = {job.job: job for job in jobs}
        outcomes = await self._jobs.states({name for job in jobs for name in job.order.depends_on})
        self._errands.see(jobs, outcomes)
        now = time.time()
        aside = self._aside.verdicts(jobs, outcomes, now)
        # The first step of a job is slow.  A speed that was measured by it alone is not used after the job has ended.
        has_ended = not self._unended <= by_name.keys()
        self._unended = frozenset(by_name)
        if not self._speeds or has_ended or now - self._measured_at > _SPEED_SECONDS:
            self._measured_at, self._speeds = now, speeds(await self._jobs.recent())
        seen = Seen(
            replica=self._leases.owner,
            now=now,
            nodes=self._executor.nodes(),
            turns=self._executor.turns(),
            here=by_name.keys() - aside.keys(),
            stopping=set(self.holding.giving_way()),
            unprepared=self.holding.unprepared(),
            threads=self._granted.threads,
            allowances=self._granted.allowances,
            policy=self._granted.policy,
            speeds=self._speeds,
            # Jobs of several processes are what a cluster's executor takes.
            elastic=self._executor.gangs,
        )
        usage = await self._reports.usage()
        # In a thread: a tenth of a millisecond a job that waits, and callers are served meanwhile.  What has become of a job
        # since is seen by its transaction, as it is when another trainer was faster.
        state, planned = await asyncio.to_thread(_planned, jobs, outcomes, usage, seen)
        self._meter.see(jobs, state, now)
        self.verdicts = aside | {entry.job: entry for entry in planned if isinstance(entry, Verdict)}
        for action in planned:
            if not isinstance(action, Verdict):
                await self._act(action, by_name)
        if now - self._shared_at > _SHARE_SECONDS:
            self._shared_at = now
            await self._executor.share(
                {
                    name: Share(tenant.weight, tenant.usage.seconds, tokens_left(state, name, now))
                    for name, tenant in state.tenants.items()
                }
            )

    async def _unfinished(self) -> list[Job]:
        """The jobs that have not ended; what is in processes of ours stays ours, also where we were held up for long.

        A lease that is ours and has no process was taken while the database went away: it is nobody's again.
        """
        jobs, now = await self._jobs.unfinished(), time.time()
        vain = [job for job in jobs if job.lease.owner == self._leases.owner and job.job not in self.holding]
        for job in vain:
            await self._leases.give_up(job)
        if any(job.job in self.holding and not job.lease.held(now) for job in jobs):
            await self._leases.renew()
        elif not vain:
            return jobs
        return await self._jobs.unfinished()

    def _with_threads(self, jobs: Iterable[Job]) -> list[Job]:
        """The jobs; those of earlier releases have the threads that they were begun with, which their rows do not say.

        The plan and the process must go by the same count: it is part of the process's name.
        """
        return [
            job if job.order.threads else replace(job, order=replace(job.order, threads=self._begun_with(job)))
            for job in jobs
        ]

    def _begun_with(self, job: Job) -> int:
        """Threads of the order that was written for the job's processes; 0 where none was, or none can be read."""
        try:
            return Work.read(self._folder / job.job).threads
        except (OSError, KeyError, TypeError, ValueError):
            # The others are planned all the same; its start reads it again.
            return 0

    async def _obey(self, jobs: Iterable[Job]) -> None:
        """Do to processes what people asked for their jobs; settle those that no process holds any more."""
        for job in jobs:
            if job.state not in (State.PAUSING, State.CANCELLING):
                continue
            if job.lease.owner == self._leases.owner and job.job in self.holding:
                if job.state is State.CANCELLING:
                    await self._executor.drop(job.job)
                    await self.holding.settle(job, moves.settle)
                elif job.job not in self.holding.pausing():
                    self.holding.pauses(job.job)
                    await self._executor.stop(job.job)
            elif not self._leases.holds(job) or job.lease.owner == self._leases.owner:
                await self._jobs.decide(job, moves.settle)

    async def _act(self, action: Action, jobs: Mapping[str, Job]) -> None:
        match action:
            case Start(name, nodes):
                await self._start(jobs[name], nodes)
            case Preempt(name, _, why):
                if name in self.holding:
                    self.holding.gives_way(name, why)
                    self._meter.preempted()
                    await self._executor.stop(name)
            case Drop(name, why):
                await self._refuse(jobs[name], Reason.JOB_UNREACHABLE.name, why)
            case Unfit(name, why):
                await self._refuse(jobs[name], Reason.SETTINGS_UNFIT.name, why)
            case Go(process):
                await self._executor.go(process)
            case Hold(process):
                await self._executor.hold(process)

    async def _start(self, job: Job, nodes: tuple[str, ...]) -> None:
        """Take the job and give it to the executor, with what it needs kept in place until it leaves."""
        if problem := gang_unfit(job.order, gangs=self._executor.gangs):
            # Ordered from a deployment that was another then.
            await self._refuse(job, Reason.SETTINGS_UNFIT.name, problem)
            return
        kept = AsyncExitStack()
        try:
            work = await kept.enter_async_context(self._work(job))
        except Failure as failure:
            await kept.aclose()
            await self._postpone_or_refuse(job, failure)
            return
        async with AsyncExitStack() as vain:
            vain.push_async_callback(kept.aclose)
            claimed = await self._leases.claim(job, nodes, self.allowance(job.tenant))
            if claimed is None:
                # Cancelled or paused since it was planned, or another trainer's by now, as its place in a quota may be.
                return
            hold_step = await self._sweeps.hold_step(claimed)
            vain.pop_all()
        await self.holding.take(claimed, kept)
        self._meter.started(job, time.time())
        folder = self._folder / job.job
        try:
            with disk_full_named("the training jobs"):
                work = self._ordered(replace(work, hold_step=hold_step, epoch=claimed.lease.epoch), folder)
                await self._executor.start(self._training(claimed, nodes, work))
        except Failure as failure:
            reason, why = failure.reason.name, failure.sentence
            # Patiently, as in `Hearing`: ours by its row and held by no process, it would stay so for ever.
            await self._patiently(partial(self.holding.settle, claimed, lambda now: moves.refuse(now, reason, why)))
        except OSError as error:
            lost = Lost(job.tenant, job.job, claimed.lease.epoch, f"it could not be started: {error}")
            await self._patiently(partial(self.hearing.lost, lost))

    def _training(self, job: Job, nodes: tuple[str, ...], work: Work) -> Training:
        order = job.order
        return Training(
            tenant=job.tenant,
            job=job.job,
            epoch=job.lease.epoch,
            folder=self._folder / job.job,
            work=work,
            group=needs(job, work.threads).group,
            nodes=nodes,
            priority=order.priority,
            deadline=order.deadline,
            processes=order.processes,
        )

    def _ordered(self, work: Work, folder: Path) -> Work:
        """Write the process its order; a second order keeps the first one's thread count, on which the bits depend."""
        if (folder / ORDER).exists():
            work = replace(work, threads=Work.read(folder).threads)
        work.write(folder)
        return work

    async def _postpone_or_refuse(self, job: Job, failure: Failure) -> None:
        if failure.code not in PASSING:
            await self._refuse(job, failure.reason.name, failure.sentence)
            return
        self._log.warning("training_postponed", job=job.job, why=failure.reason.name)
        self._postpone(job.job, 1, f"what it needs is not ready ({failure.sentence.rstrip('.')})")

    def _postpone(self, name: str, crashes: int, why: str) -> None:
        """Start the job no sooner than it should be after so many crashes in a row; its owner is told why."""
        self._aside.rest(name, time.time() + self._limits.pause_after(crashes), why)

    async def _refuse(self, job: Job, reason: str, message: str) -> None:
        await self._jobs.decide(job, lambda now: moves.refuse(now, reason, message))


def _planned(
    jobs: Sequence[Job], outcomes: Mapping[str, State], usage: Mapping[str, UsageRow], seen: Seen
) -> tuple[Snapshot, list[Planned]]:
    state = state_of(jobs, outcomes, usage, seen)
    return state, plan(state, seen.now)
