"""One service at its post: started, watched, restarted after a crash, ended.

Invariant: of one program at most one process runs, and when it is gone so is every
process that it had started.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from services.chassis import processes
from services.ops.supervisor.doors import Doors
from services.ops.supervisor.health import Probe
from services.ops.supervisor.logfiles import LogFile, tail
from services.ops.supervisor.plan import Program
from services.ops.supervisor.record import ServiceRecord, ServiceState


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the supervisor waits for what."""

    # After a crash: this, doubled at each further one, up to the longest.
    first_pause_seconds: float = 0.5
    longest_pause_seconds: float = 30.0
    # Crashes before the first SERVING after which a service is given up.
    attempts: int = 4
    # Serving for this long wipes a service's slate.
    steady_seconds: float = 60.0
    # Between SIGTERM and SIGKILL; over the services' own drain.
    stop_seconds: float = 25.0
    # The same for a service that has not begun to serve, and so has nothing to drain.
    stop_unserved_seconds: float = 3.0
    look_seconds: float = 2.0
    sweep_seconds: float = 5.0
    look_starting_seconds: float = 0.15


class GivenUpError(Exception):
    """A service that could not be brought up; says which, why, and what it last wrote."""


class Post:
    """Runs one program.  `changed` is called after every change of what :meth:`recorded` returns."""

    def __init__(
        self,
        program: Program,
        doors: Doors,
        data_dir: Path,
        variables: Mapping[str, str],
        patience: Patience,
        starting: asyncio.Lock,
        changed: Callable[[str], None],
    ) -> None:
        self.program = program
        self.serves = asyncio.Event()
        self.gone = asyncio.Event()
        self._doors = doors
        self._variables = variables
        self._patience = patience
        self._starting = starting
        self._changed = changed
        self._log = LogFile(data_dir / "logs" / f"{program.name}.log")
        self._child: processes.Child | None = None
        self._drinking: asyncio.Task[None] | None = None
        self._state = ServiceState.WAITING
        self._note = ""
        self._told_pid = 0
        self._since = time.time()
        self._restarts = 0
        self._crashes_in_a_row = 0

    @property
    def pids(self) -> frozenset[int]:
        """The processes that this post waits for: the service and its guardian."""
        if self._child is None:
            return frozenset()
        guardian = self._child.guardian
        return frozenset({self._child.pid} | ({guardian.pid} if guardian else set()))

    def recorded(self) -> ServiceRecord:
        """Return what the record says of this service."""
        return ServiceRecord(
            name=self.program.name,
            state=self._state,
            since=self._since,
            pid=self._child.pid if self._child else 0,
            restarts=self._restarts,
            note=self._note,
            http_scheme=self._doors.http_scheme,
            **dict(self._doors.named()),
        )

    async def run(self) -> None:
        """Keep the program running until cancelled.  Raises GivenUpError if it never comes to serve."""
        while True:
            await self._start()
            assert self._child is not None
            looking = asyncio.create_task(self._look())
            try:
                status = await self._lived(self._child, looking)
            finally:
                looking.cancel()
            await self._clear(self._child)
            await self._pause(status)

    async def end(self, hurry: asyncio.Event) -> None:
        """Stop the process: SIGTERM, and SIGKILL after the grace or when `hurry` is set."""
        if self._child is not None:
            unserved = self._state is ServiceState.STARTING
            grace = self._patience.stop_unserved_seconds if unserved else self._patience.stop_seconds
            self._move(ServiceState.STOPPING)
            stopping = asyncio.create_task(self._child.stop(grace))
            hurrying = asyncio.create_task(hurry.wait())
            await asyncio.wait({stopping, hurrying}, return_when=asyncio.FIRST_COMPLETED)
            hurrying.cancel()
            if not stopping.done():
                stopping.cancel()
                await self._child.kill()
            await self._clear(self._child)
        self._move(self._state if self._state is ServiceState.FAILED else ServiceState.STOPPED, self._note)
        self.gone.set()

    async def _start(self) -> None:
        async with self._starting:
            self._child = await processes.spawn(
                self.program.command,
                env=self._variables,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
        assert self._child.process.stdout is not None
        self._drinking = asyncio.create_task(self._log.drink(self._child.process.stdout))
        self._move(ServiceState.STARTING)

    async def _lived(self, child: processes.Child, looking: "asyncio.Task[None]") -> int:
        """Wait for the process' end and return its status; passes on what looking at it raises."""
        waiting = asyncio.create_task(child.process.wait())
        try:
            await asyncio.wait({waiting, looking}, return_when=asyncio.FIRST_COMPLETED)
            if looking.done():
                looking.result()
            return await waiting
        finally:
            waiting.cancel()

    async def _clear(self, child: processes.Child) -> None:
        """After the end of the process: end what it started, keep what it wrote."""
        await child.wait()
        if self._drinking is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._drinking, 1.0)
        self._child = None

    async def _pause(self, status: int) -> None:
        """Wait before the next start, longer after each crash.  Raises GivenUpError."""
        self._crashes_in_a_row += 1
        ended = f"signal {-status}" if status < 0 else f"status {status}"
        if not self.serves.is_set() and self._crashes_in_a_row >= self._patience.attempts:
            raise self._given_up(f"ended {self._crashes_in_a_row} times before it served, last with {ended}")
        pause = self._patience.first_pause_seconds * 2 ** (self._crashes_in_a_row - 1)
        pause = min(pause, self._patience.longest_pause_seconds)
        self._restarts += 1
        self._move(ServiceState.RESTARTING, f"ended with {ended}; again in {pause:.1f} s")
        await asyncio.sleep(pause)

    async def _look(self) -> None:
        """Follow the health of one process.  Raises GivenUpError when it takes too long to serve at all."""
        started = time.monotonic()
        served_at: float | None = None
        async with Probe(self._doors.admin_listen) as probe:
            while True:
                serving, why = await probe.look()
                now = time.monotonic()
                if serving:
                    served_at = served_at or now
                    self.serves.set()
                    self._move(ServiceState.SERVING)
                    if now - served_at > self._patience.steady_seconds:
                        self._crashes_in_a_row = 0
                elif served_at is not None:
                    self._move(ServiceState.UNREADY, why)
                else:
                    self._move(ServiceState.STARTING)
                    if not self.serves.is_set() and now - started > self.program.ready_seconds:
                        raise self._given_up(f"was not ready within {self.program.ready_seconds:.0f} s")
                await asyncio.sleep(
                    self._patience.look_starting_seconds if served_at is None else self._patience.look_seconds
                )

    def _given_up(self, why: str) -> GivenUpError:
        self._move(ServiceState.FAILED, why)
        last = "\n".join(f"    {line[:300]}" for line in tail(self._log.path, 8))
        return GivenUpError(f"{self.program.name} {why}. The end of {self._log.path}:\n{last}")

    def _move(self, state: ServiceState, note: str = "") -> None:
        pid = self._child.pid if self._child else 0
        if (state, note, pid) == (self._state, self._note, self._told_pid):
            return
        if state is not self._state:
            self._since = time.time()
        self._state, self._note, self._told_pid = state, note, pid
        self._changed(self.program.name)
