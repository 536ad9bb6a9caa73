"""Training on this machine: a process for each resident base, and one for each job that trains alone.

Invariants: a job is in one process; a base is in memory once for all its jobs, and leaves when none has needed it for
a while; every process ends with the trainer, those of many jobs after a checkpoint of each.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

from services.chassis import waiting
from services.chassis.core_use import CoreMeter, CoreUse
from services.chassis.logs import Log
from services.trainer.executors.executor import News, Training, Unheard
from services.trainer.executors.processes import JOINT, SOLO, Running, start
from services.trainer.reports import Report
from services.trainer.scheduling.choosing import Share
from services.trainer.scheduling.state import Node, Process, Turn
from services.trainer.scheduling.usage import solo_charge
from services.trainer.work import Command, Do, Line, Said, WorkerOrder

# How often it is looked which base nobody needs, and solo jobs are charged.
_LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine as it trains.  A base that nobody needs stays in memory for ``idle_seconds``.

    In ``data_dir`` the services of this machine say that they run.
    """

    node: str
    replica: str
    memory_bytes: int
    cores: int
    stop_seconds: float
    idle_seconds: float
    dtype: str = "bfloat16"
    data_dir: Path | None = None


class LocalExecutor:
    """An `Executor` over processes of this machine.  ``folder`` holds what workers need, one folder each."""

    def __init__(self, folder: Path, machine: Machine, log: Log) -> None:
        self._folder = folder
        self._machine = machine
        self._log = log
        self._running: dict[Process, Running] = {}
        # Those that nobody needs any more and that are ending; another of the same name may have begun.
        self._leaving: list[Running] = []
        self._listeners: set[asyncio.Task[None]] = set()
        # Locks of processes that are being started; one goes with the last who holds it.
        self._starting: WeakValueDictionary[Process, asyncio.Lock] = WeakValueDictionary()
        self._unheard = Unheard()
        self._core_use: Callable[[], CoreUse] = CoreMeter(machine.data_dir) if machine.data_dir else CoreUse

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator["LocalExecutor"]:
        """Inside the block processes may be started; at its end all of them have ended."""
        looking = asyncio.create_task(self._look())
        try:
            yield self
        finally:
            looking.cancel()
            every = [*self._running.values(), *self._leaving]
            await asyncio.gather(*(running.end(self._machine.stop_seconds) for running in every))
            # What they said last is heard, too.
            await asyncio.gather(*self._listeners)

    @property
    def gangs(self) -> bool:
        """As Executor.gangs: a second process on the same cores would gain nothing."""
        return False

    def nodes(self) -> Sequence[Node]:
        """As Executor.nodes: one."""
        machine = self._machine
        use = self._core_use()
        return (
            Node(
                machine.node,
                machine.memory_bytes,
                machine.cores,
                machine.replica,
                serving_cores=use.serving,
                other_cores=use.others,
            ),
        )

    def turns(self) -> Sequence[Turn]:
        """Of every process that holds a job."""
        return tuple(
            Turn(process, running.computing, running.since)
            for process, running in self._running.items()
            if running.jobs
        )

    async def start(self, training: Training) -> None:
        """As Executor.start.  A process that is new rests until it is told to compute."""
        process = training.process
        turn = self._starting.setdefault(process, asyncio.Lock())
        async with turn:
            running = self._running.get(process)
            if running is not None and training.group is None:
                await self._part(process, running)
                running = None
            if running is None:
                running = await self._start(training)
                running.rest()
                self._running[process] = running
                listening = asyncio.create_task(self._listen(process, running))
                self._listeners.add(listening)
                listening.add_done_callback(self._listeners.discard)
            running.jobs[training.job] = training
        if training.group is not None:
            await running.tell(_joining(training))

    async def _part(self, process: Process, running: Running) -> None:
        """End a process that trained the same job alone under an earlier lease, whatever it is about.

        All that it said is durable.  It is waited for: it has gigabytes to free, which its successor needs.
        """
        self._leaving.append(self._running.pop(process))
        running.jobs.clear()
        await running.child.kill()

    async def _start(self, training: Training) -> Running:
        work = training.work
        if training.group is None:
            running = await start(SOLO, training.folder, work.threads, many=False)
        else:
            folder = self._folder / _name(training.process)
            WorkerOrder(
                base_folder=work.base_folder,
                base_name=work.base_name,
                base_digest=work.base_digest,
                threads=work.threads,
                dtype=self._machine.dtype,
                data_dir=work.data_dir,
                memory_bytes=self._machine.memory_bytes,
            ).write(folder)
            running = await start(JOINT, folder, work.threads, many=True, environment=waiting.ENVIRONMENT)
        self._log.info("process_started", process=training.process.name, child_pid=running.child.pid)
        return running

    async def _listen(self, process: Process, running: Running) -> None:
        async for news in running.lines():
            self._unheard.put(news)
        if self._running.get(process) is running:
            del self._running[process]
        if running in self._leaving:
            self._leaving.remove(running)
        self._log.info("process_ended", process=process.name, status=running.child.process.returncode)

    async def stop(self, job: str) -> None:
        """As Executor.stop."""
        if running := self._holder(job):
            await running.tell(Command(Do.STOP, job=job, epoch=running.jobs[job].epoch))

    async def drop(self, job: str) -> None:
        """As Executor.drop."""
        if running := self._holder(job):
            epoch = running.jobs[job].epoch
            running.forget(job)
            await running.tell(Command(Do.DROP, job=job, epoch=epoch))

    async def go(self, process: Process) -> None:
        """As Executor.go."""
        if running := self._running.get(process):
            running.go()

    async def hold(self, process: Process) -> None:
        """As Executor.hold."""
        # One that has let go of its jobs is on its way out, which rest would keep it from, or waits for others.
        if (running := self._running.get(process)) and running.jobs:
            running.rest()

    async def share(self, shares: Mapping[str, Share]) -> None:
        """As Executor.share."""
        command = Command(
            Do.SHARES,
            weights={tenant: share.weight for tenant, share in shares.items()},
            usage_seconds={tenant: share.used_seconds for tenant, share in shares.items()},
            tokens_left={
                tenant: share.tokens_left for tenant, share in shares.items() if share.tokens_left is not None
            },
        )
        for process, running in self._running.items():
            if process.group is not None and running.computing:
                await running.tell(command)

    async def news(self) -> list[News]:
        """As Executor.news."""
        return await self._unheard.wait()

    def left(self) -> list[News]:
        """As Executor.left."""
        return self._unheard.take()

    def _holder(self, job: str) -> Running | None:
        return next((running for running in self._running.values() if job in running.jobs), None)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            loop_seconds = asyncio.get_running_loop().time()
            for process, running in list(self._running.items()):
                if process.group is None:
                    self._charge(running)
                elif not running.jobs and loop_seconds - running.idle_since > self._machine.idle_seconds:
                    # Off the list first: a job that comes now has a new process brought up.
                    self._leaving.append(self._running.pop(process))
                    await running.tell(Command(Do.END))

    def _charge(self, running: Running) -> None:
        seconds = running.computed_seconds()
        for training in running.jobs.values():
            share = solo_charge(seconds, training.work.threads, self._machine.cores)
            line = Line(Said.USAGE)
            self._unheard.put(Report(training.tenant, training.job, training.epoch, line, share))


def _joining(training: Training) -> Command:
    return Command(
        Do.JOIN,
        job=training.job,
        tenant=training.tenant,
        folder=str(training.folder),
        epoch=training.epoch,
        priority=int(training.priority),
        deadline=training.deadline,
    )


def _name(process: Process) -> str:
    """A folder's name for a process: short, and another for every group."""
    return hashlib.sha256(process.name.encode()).hexdigest()[:16]
