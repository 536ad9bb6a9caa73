"""A runner at work, whose processes do nothing but what a test has them say."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from services.chassis.database import Database, open_database
from services.chassis.logs import logger
from services.chassis.telemetry import Telemetry
from services.trainer.config import TrainerSettings
from services.trainer.errands import Errands
from services.trainer.executors.executor import Lost, News, Training, Unheard
from services.trainer.job import Job, State
from services.trainer.meter import Meter
from services.trainer.planning import Allowance
from services.trainer.publisher import Publisher
from services.trainer.remains import Remains, Retention
from services.trainer.reports import Report
from services.trainer.runner import Runner
from services.trainer.scheduling.choosing import Share
from services.trainer.scheduling.state import Node, Policy, Process, Turn
from services.trainer.settings import Settings
from services.trainer.terms import Granted, Limits, Wake
from services.trainer.work import LAST, ORDER, RESULT, Line, Work
from tests.harness.timeouts import HANG_SECONDS
from tests.stack import eventually
from tests.unit.trainer.sweeping.test_sweeps import sweeps_in
from tests.unit.trainer.test_jobs import jobs_in, leases_in, reports_in, results_in, stored


def left(folder: Path, job: Job, epoch: int = 0) -> None:
    """What a job that was trained under a lease leaves for its registration."""
    (folder / job.job / RESULT).mkdir(parents=True)
    (folder / job.job / ORDER).write_text(json.dumps({"epoch": epoch}))


async def until_left(folder: Path, *jobs: Job) -> None:
    """Wait until the folders of these jobs, and no others, are there."""
    names = {job.job for job in jobs}
    await asyncio.to_thread(eventually, lambda: {path.name for path in folder.iterdir()} == names, f"{names} are left")


class Nobody:
    """Takes no result: the jobs here bring none to the registry."""

    async def publish(self, job: Job, result: Path, lineage: Mapping[str, object], mark: str = "") -> str:
        raise AssertionError(f"{job.job} is published")


class Bases:
    """Bases of which some are still to come."""

    def __init__(self) -> None:
        self.missing: set[str] = set()
        self.fetched: list[str] = []
        self.coming = asyncio.Event()
        self.failing: Exception | None = None

    def here(self, job: Job) -> bool:
        return job.job not in self.missing

    async def fetch(self, job: Job) -> None:
        self.fetched.append(job.job)
        if self.failing is not None:
            raise self.failing
        await self.coming.wait()
        self.missing.discard(job.job)


class Scripted:
    """An executor that does nothing but remember what it was asked, and says what the test has it say."""

    def __init__(self, replica: str) -> None:
        self._replica = replica
        self._unheard = Unheard()
        self.started: dict[str, Training] = {}
        self.asked: list[tuple[str, str]] = []
        self.shares: dict[str, Share] = {}
        self.failing: Exception | None = None
        self._computing: set[Process] = set()

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        yield

    @property
    def gangs(self) -> bool:
        return False

    def nodes(self) -> Sequence[Node]:
        return (Node("here", 1 << 40, 2, self._replica),)

    def turns(self) -> Sequence[Turn]:
        there = {training.process for training in self.started.values()}
        return [Turn(process, computing=process in self._computing, since=0.0) for process in there]

    async def start(self, training: Training) -> None:
        if self.failing is not None:
            raise self.failing
        if training.process not in {other.process for other in self.started.values()}:
            # It is new, and rests until it is told to compute.
            self._computing.discard(training.process)
        self.started[training.job] = training

    async def stop(self, job: str) -> None:
        self.asked.append(("stop", job))

    async def drop(self, job: str) -> None:
        self.asked.append(("drop", job))
        self.started.pop(job, None)

    async def go(self, process: Process) -> None:
        self.asked.append(("go", process.name))
        self._computing.add(process)

    async def hold(self, process: Process) -> None:
        self.asked.append(("hold", process.name))
        self._computing.discard(process)

    async def share(self, shares: Mapping[str, Share]) -> None:
        self.shares = dict(shares)

    async def news(self) -> list[News]:
        return await self._unheard.wait()

    def left(self) -> list[News]:
        return self._unheard.take()

    def says(self, job: str, *lines: Line, seconds: float = 0.0) -> None:
        """Have the job's process say these lines, each of so many seconds of the machine."""
        training = self.started[job]
        if lines[-1].said in LAST:
            del self.started[job]
        for line in lines:
            self._unheard.put(Report(training.tenant, job, training.epoch, line, seconds))

    def loses(self, job: str) -> None:
        """Have the job's process be lost."""
        training = self.started.pop(job)
        self._unheard.put(Lost(training.tenant, job, training.epoch, "signal 9"))


class World:
    """A runner's surroundings."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database, self.folder = database, folder
        self.listeners: list[Callable[[str], None]] = []
        self.telemetry = Telemetry(TrainerSettings(), "trainer")
        self.meter = Meter(self.telemetry)
        self.jobs = jobs_in(database, self._heard, self.meter.ended)
        self.bases = Bases()
        self.publisher: Publisher = Nobody()
        self.leases = leases_in(database)
        self.executor = Scripted(self.leases.owner)
        self.sweeps = sweeps_in(database, self._heard)
        self.holding: list[str] = []
        # As the trainer is set to.
        self.threads = 1
        self.lost_seconds = 60.0
        self.restart_seconds = 0.01
        self.plan_seconds = 0.05

    def _heard(self, job: str) -> None:
        for listener in self.listeners:
            listener(job)

    @asynccontextmanager
    async def work(self, job: Job) -> AsyncIterator[Work]:
        self.holding.append(job.job)
        try:
            yield Work("base", "tiny", "rows", Settings(), threads=self.threads, data_dir=str(self.folder))
        finally:
            self.holding.remove(job.job)

    @asynccontextmanager
    async def running(self, **allowed: Allowance) -> AsyncIterator[Runner]:
        """A runner at work."""
        wake, log = Wake(), logger("trainer")
        pause_seconds = self.restart_seconds
        limits = Limits(
            max_crashes=3,
            restart_seconds=pause_seconds,
            max_restart_seconds=10 * pause_seconds,
            plan_seconds=self.plan_seconds,
        )
        errands = Errands(
            self.jobs,
            self.publisher,
            self.bases,
            results_in(self.database, self.folder, self.lost_seconds, self._heard),
            lineage=self.sweeps.lineage,
            pause_after=limits.pause_after,
            done=wake,
            log=log,
        )
        runner = Runner(
            self.jobs,
            self.leases,
            reports_in(self.database),
            self.executor,
            errands,
            self.sweeps,
            Remains(self.jobs, self.folder, Retention(3600.0, 1 << 30), now=time.time),
            folder=self.folder,
            needed=self.bases,
            work=self.work,
            limits=limits,
            wake=wake,
            granted=Granted(self.threads, allowed, Policy(quantum_seconds=0.0)),
            meter=self.meter,
            log=log,
        )
        self.listeners.append(lambda _: wake())
        task = asyncio.create_task(runner.run())
        try:
            yield runner
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def sample(self, name: str, **labels: str) -> float | None:
        """A sample of the metrics."""
        return self.telemetry.registry.get_sample_value(name, labels)

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        await asyncio.to_thread(eventually, holds, what)

    async def until_state(self, job: Job, state: State) -> Job:
        """Wait for a state of a job; return it."""
        changed = asyncio.Event()
        self.listeners.append(lambda _: changed.set())
        async with asyncio.timeout(HANG_SECONDS):
            while (now := await self.jobs.get(job.tenant, job.job)).state is not state:
                await changed.wait()
                changed.clear()
        return now


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[World]:
    """A world over a database with one dataset."""
    async with open_database(f"sqlite:///{folder}/t.db", "services.trainer.migrations") as database:
        await stored(database)
        yield World(database, folder / "jobs")
