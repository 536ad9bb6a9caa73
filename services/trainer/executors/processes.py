"""One training process on this machine: started, listened to, put to rest, ended.

A process of one job (`Solo`) and one of many (`Joint`) differ in how they are told things: by signals, or by commands
on their standard input.
Invariant: a process is at rest by the system's stop signal, so its bits do not depend on when; and what a job must be
let go for wakes it, since a resting process hears nothing.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

from services.chassis import processes, resources
from services.trainer.executors.executor import Lost, News, Training
from services.trainer.reports import Report
from services.trainer.work import LAST, Command, Do, Line, Said

# What runs a job that trains alone, and what runs many on one base.
SOLO = "services.trainer.child"
JOINT = "services.trainer.joint.worker"
# One line is a few hundred bytes, a worker's usage of hundreds of jobs some ten thousand.
_MAX_LINE_BYTES = 1024 * 1024


class Running:
    """A process and the jobs that it holds."""

    def __init__(self, child: processes.Child, command_line: bool) -> None:
        self.child = child
        self.jobs: dict[str, Training] = {}
        # Jobs that were told to write a checkpoint and leave: until they have, the process does not rest.
        self.leaving: set[str] = set()
        self.computing = True
        self.since = time.time()
        # When it last had no job.
        self.idle_since = time.monotonic()
        self._command_line = command_line
        self._computed_seconds = 0.0
        self._went = time.monotonic()

    async def lines(self) -> AsyncIterator[News]:
        """What it says of its jobs until it ends; then of each that it still held, that it is lost."""
        output = self.child.process.stdout
        assert output is not None
        while True:
            try:
                raw = await output.readline()
            except ValueError:  # longer than any line of ours, and dropped by the reader
                continue
            if not raw:
                break
            line = Line.decode(raw)
            for report in self._reports(line) if line else ():
                yield report
        status = await self.child.wait()
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        for training in list(self.jobs.values()):
            self.forget(training.job)
            yield Lost(training.tenant, training.job, training.epoch, how)

    def _reports(self, line: Line) -> list[Report]:
        if line.said is Said.USAGE:
            return [
                Report(held.tenant, held.job, held.epoch, line, seconds)
                for job, seconds in line.seconds.items()
                if (held := self.jobs.get(job))
            ]
        # A process of one job need not name it.
        job = line.job or (next(iter(self.jobs), "") if not self._command_line else "")
        training = self.jobs.get(job)
        if training is None or line.said is Said.READY or line.epoch not in (0, training.epoch):
            return []
        if line.said in LAST:
            self.forget(job)
        return [Report(training.tenant, job, training.epoch, line)]

    def forget(self, job: str) -> None:
        """The process holds the job no more."""
        self.jobs.pop(job, None)
        self.leaving.discard(job)
        self.idle_since = time.monotonic()

    def rest(self) -> None:
        """Stop computing, in the middle of whatever it does."""
        if self.computing and not self.leaving:
            self._computed_seconds += time.monotonic() - self._went
            self.computing, self.since = False, time.time()
            self._signal(signal.SIGSTOP)

    def go(self) -> None:
        """Go on computing."""
        if not self.computing:
            self._went = time.monotonic()
            self.computing, self.since = True, time.time()
            self._signal(signal.SIGCONT)

    def computed_seconds(self) -> float:
        """Seconds that it computed since the last call."""
        now = time.monotonic()
        seconds = self._computed_seconds + (now - self._went if self.computing else 0.0)
        self._computed_seconds, self._went = 0.0, now
        return seconds

    async def tell(self, command: Command) -> None:
        """Say it.  What a job must be let go for wakes a resting process; the rest it hears when it computes again."""
        if self._command_line:
            # Not awaited: a process at rest reads nothing, and a pipe takes some hundred commands.
            with suppress(ConnectionError):
                processes.say(self.child.process, command.encode())
        elif command.do in (Do.STOP, Do.END):
            with suppress(ProcessLookupError):
                self.child.process.send_signal(signal.SIGTERM)
        elif command.do is Do.DROP:
            await self.child.kill()
        if command.do is Do.STOP:
            self.leaving.add(command.job)
        if command.do in (Do.STOP, Do.DROP, Do.END):
            self.go()

    async def end(self, grace_seconds: float) -> None:
        """Have every job write its checkpoint, and end; kill what takes longer."""
        await self.tell(Command(Do.END))
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_seconds):
                await self.child.process.wait()
        await self.child.kill()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.child.pid, number)


async def start(
    module: str, folder: Path, threads: int, *, many: bool, environment: Mapping[str, str] = MappingProxyType({})
) -> Running:
    """Start `python -m MODULE FOLDER`; what it prints goes into the folder."""
    share = resources.shares()[resources.Role.TRAINER]
    environment = os.environ | share.environment() | {"OMP_NUM_THREADS": str(threads)} | dict(environment)
    with (folder / "process.log").open("ab") as log:
        child = await processes.spawn(
            [sys.executable, "-m", module, folder],
            env=environment,
            own_session=True,
            stdin=asyncio.subprocess.PIPE if many else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            limit=_MAX_LINE_BYTES,
        )
    return Running(child, many)
