"""Carry out the scheduler's plan: start a training process, follow it, settle what it leaves.

Invariant: what a job's row says is never ahead of what is on disk; so a trainer killed
at any point finds, when it starts again, jobs that it can go on with.
"""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from services.chassis import processes, resources
from services.chassis.errors import Code, Failure
from services.chassis.logs import Log
from services.trainer.job import Event, EventKind, Job, Move, State
from services.trainer.jobs import Jobs
from services.trainer.publisher import Publisher, PublishPostponed, PublishRefused
from services.trainer.scheduler import (
    Action,
    Ended,
    Fetch,
    Register,
    Settle,
    Train,
    begin,
    conclude,
    plan,
    refuse,
    settle,
)
from services.trainer.work import ORDER, RESULT, Exit, Line, Said, Work

_KINDS = {Said.STEP: EventKind.STEP, Said.CHECKPOINT: EventKind.CHECKPOINT}
# One line is a few hundred bytes; a child that writes longer ones is broken.
_MAX_LINE_BYTES = 64 * 1024
# What says nothing about the job: tried again.
_PASSING = frozenset({Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.ABORTED, Code.CANCELLED, Code.UNAUTHENTICATED})


class JobBases(Protocol):
    """Where jobs' bases are."""

    def here(self, job: Job) -> bool:
        """Whether the job's base lies on this machine."""

    async def fetch(self, job: Job) -> None:
        """Bring it here.  Raises what says that this will never be, or not now."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How patient the runner is.  Times in seconds."""

    max_crashes: int
    restart_seconds: float
    max_restart_seconds: float
    stop_seconds: float

    def pause_after(self, crashes: int) -> float:
        """Seconds to wait before the next try after so many crashes in a row."""
        return float(min(self.restart_seconds * 2 ** max(0, crashes - 1), self.max_restart_seconds))


class Runner:
    """Runs one training process at a time, and registrations beside it."""

    def __init__(
        self,
        jobs: Jobs,
        publisher: Publisher,
        *,
        folder: Path,
        bases: JobBases,
        work: Callable[[Job], AbstractAsyncContextManager[Work]],
        limits: Limits,
        log: Log,
    ) -> None:
        self._jobs = jobs
        self._publisher = publisher
        self._folder = folder
        self._bases = bases
        self._work = work
        self._limits = limits
        self._log = log
        self._wake = asyncio.Event()
        self._under_way: set[tuple[type[Action], str]] = set()

    def wake(self, _: str = "") -> None:
        """Look at the jobs again: one of them changed."""
        self._wake.set()

    async def run(self) -> None:
        """Work until cancelled; then the training process writes a checkpoint and ends."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._wake.clear()
                await self._sweep()
                planned = plan(await self._jobs.unfinished(), self._bases.here)
                actions = [action for action in planned if (type(action), action.job.job) not in self._under_way]
                if not actions:
                    await self._wake.wait()
                for action in actions:
                    await self._act(action, group)

    async def _act(self, action: Action, group: asyncio.TaskGroup) -> None:
        match action:
            case Settle(job):
                await self._jobs.decide(job, settle)
            case Register(job):
                self._begin(action, self._register(job), group)
            case Fetch(job):
                self._begin(action, self._fetch(job), group)
            case Train(job):
                await self._train(job)

    def _begin(self, action: Action, work: Coroutine[Any, Any, None], group: asyncio.TaskGroup) -> None:
        """Do it beside the training; once, however often it is planned meanwhile."""
        mark = (type(action), action.job.job)
        self._under_way.add(mark)
        group.create_task(work).add_done_callback(lambda _: self._under_way.discard(mark))

    async def _register(self, job: Job) -> None:
        tries = 0
        while True:
            try:
                version = await self._publisher.publish(job, self._folder / job.job / RESULT)
            except PublishPostponed as why:
                tries += 1
                self._log.warning("registration_postponed", job=job.job, tries=tries, why=str(why))
                await asyncio.sleep(self._limits.pause_after(tries))
            except Failure as failure:
                # Access or we ourselves are not ready: nothing that the job could be blamed for.
                tries += 1
                self._log.warning("registration_postponed", job=job.job, tries=tries, why=failure.reason.name)
                await asyncio.sleep(self._limits.pause_after(tries))
            except PublishRefused as refusal:
                await self._refuse(job, refusal.reason, str(refusal))
                return
            else:
                await self._jobs.decide(job, _succeeded(version))
                return

    async def _fetch(self, job: Job) -> None:
        """Bring the job's base here, for as long as the job wants it; what only passes is tried again."""
        tries = 0
        while not (await self._jobs.get(job.tenant, job.job)).state.finished:
            try:
                await self._bases.fetch(job)
            except Failure as failure:
                if failure.code not in _PASSING:
                    await self._refuse(job, failure.reason.name, failure.sentence)
                    break
                tries += 1
                self._log.warning("base_postponed", job=job.job, tries=tries, why=failure.reason.name)
                await asyncio.sleep(self._limits.pause_after(tries))
            else:
                break
        self.wake()

    async def _train(self, job: Job) -> None:
        folder = self._folder / job.job
        try:
            async with self._work(job) as wanted:
                await self._train_on(job, folder, self._ordered(wanted, folder))
        except Failure as failure:
            if failure.code not in _PASSING:
                await self._refuse(job, failure.reason.name, failure.sentence)
                return
            self._log.warning("training_postponed", job=job.job, why=failure.reason.name)
            await asyncio.sleep(self._limits.pause_after(1))

    async def _train_on(self, job: Job, folder: Path, work: Work) -> None:
        job = await self._jobs.decide(job, begin)
        if job.state is not State.RUNNING:
            # Cancelled or paused since it was planned.
            return
        share = resources.shares()[resources.Role.TRAINER]
        environment = os.environ | share.environment() | {"OMP_NUM_THREADS": str(work.threads)}
        with (folder / "child.log").open("ab") as log:
            child = await processes.spawn(
                [sys.executable, "-m", "services.trainer.child", folder],
                env=environment,
                own_session=True,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                limit=_MAX_LINE_BYTES,
            )
        self._log.info("child_started", job=job.job, child_pid=child.pid, attempt=job.attempts)
        refusal = None
        try:
            async with asyncio.TaskGroup() as group:
                obeying = group.create_task(self._obey(job, child))
                refusal = await self._follow(job, child)
                obeying.cancel()
            status = await child.wait()
        finally:
            if child.process.returncode is None:
                await child.stop(self._limits.stop_seconds)
        ended = Ended(status, refusal.reason, refusal.message) if refusal else Ended(status)
        self._log.info("child_ended", job=job.job, how=ended.how)
        await self._conclude(job, ended)

    def _ordered(self, work: Work, folder: Path) -> Work:
        """Write the process its order; a second order keeps the first one's thread count, on which the bits depend."""
        if (folder / ORDER).exists():
            work = replace(work, threads=Work.read(folder).threads)
        work.write(folder)
        return work

    async def _obey(self, job: Job, child: processes.Child) -> None:
        """Tell the process what became of its job."""
        asked = False
        while True:
            await self._sweep()
            state = (await self._jobs.get(job.tenant, job.job)).state
            if state is State.CANCELLING:
                await child.kill()
                return
            if state is State.PAUSING and not asked:
                asked = True
                child.process.send_signal(signal.SIGTERM)
            await self._wake.wait()
            self._wake.clear()

    async def _follow(self, job: Job, child: processes.Child) -> Line | None:
        """Store what the process reports until it closes its end; return its refusal, if any."""
        output = child.process.stdout
        assert output is not None
        refusal = None
        while True:
            try:
                raw = await output.readline()
            except ValueError:  # longer than any line of ours, and dropped by the reader
                continue
            if not raw:
                return refusal
            line = Line.decode(raw)
            if line is None:
                continue
            if line.said is Said.REFUSED:
                refusal = line
                continue
            reset = {"crashes": 0} if line.said is Said.CHECKPOINT else {}
            await self._jobs.record(job, [_event(job, line)], **reset)

    async def _conclude(self, job: Job, ended: Ended) -> None:
        job = await self._jobs.decide(job, lambda now: conclude(now, ended, self._limits.max_crashes))
        if job.state is State.RUNNING and ended.status != Exit.STOPPED:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._limits.pause_after(job.crashes)):
                    await self._until_other(job)

    async def _until_other(self, job: Job) -> None:
        """Wait until somebody cancels or pauses the job."""
        while (await self._jobs.get(job.tenant, job.job)).state is job.state:
            self._wake.clear()
            await self._wake.wait()

    async def _refuse(self, job: Job, reason: str, message: str) -> None:
        await self._jobs.decide(job, lambda now: refuse(now, reason, message))

    async def _sweep(self) -> None:
        """Drop the folders of jobs that have ended: the result is in the registry, or will never be wanted.

        Whatever ended them (a cancellation while paused, a trainer that was killed) wakes us, or comes before a start.
        """
        # Folders first: one is made only here, and only for a job that has not ended.
        folders = await asyncio.to_thread(_names, self._folder)
        ended = folders - {job.job for job in await self._jobs.unfinished()} if folders else set()
        for name in ended:
            await asyncio.to_thread(shutil.rmtree, self._folder / name, ignore_errors=True)


def _names(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except FileNotFoundError:
        return set()


def _event(job: Job, line: Line) -> Event:
    message = line.message
    if line.said is Said.STARTED:
        step = line.progress.step
        message = f"continuing after step {step}" if step else f"{line.progress.total_steps} steps to go"
    return Event(
        kind=_KINDS.get(line.said, EventKind.MESSAGE),
        state=job.state,
        progress=line.progress,
        create_time=datetime.now(UTC),
        learning_rate=line.learning_rate,
        gradient_norm=line.gradient_norm,
        message=message,
    )


def _succeeded(version: str) -> Callable[[Job], Move]:
    return lambda _: Move(State.SUCCEEDED, f"registered as {version}", {"version": version})
