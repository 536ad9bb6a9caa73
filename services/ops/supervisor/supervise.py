"""Keeps every program of a suite running, from the first start in order to the last stop in reverse.

Invariants: a program starts only when all that it depends on serve; it stops only when
all that depend on it have stopped; when :meth:`Supervisor.run` returns, no process of
the suite is left.
"""

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from services.ops.supervisor import orphans, record
from services.ops.supervisor.doors import Doors
from services.ops.supervisor.plan import Program, environment
from services.ops.supervisor.post import Patience, Post
from services.ops.supervisor.record import SuiteRecord, SuiteState

Observer = Callable[[SuiteRecord, str], None]


class Supervisor:
    """Runs `programs` on `doors` with state under `data_dir`.

    `observe` hears of every change: the whole record, and the name of the service that
    changed (empty for the suite).  The process is the supervisor's alone: it ends every
    child that is not of the suite.  Must run in the main thread: the kernel's
    parent-death signal follows the thread that starts a child.
    """

    def __init__(
        self,
        programs: Iterable[Program],
        doors: Mapping[str, Doors],
        data_dir: Path,
        *,
        observe: Observer = lambda _record, _name: None,
        patience: Patience | None = None,
    ) -> None:
        self._patience = patience or Patience()
        # Held while a child is started, so that a sweep does not take it for a stranger.
        self._starting = asyncio.Lock()
        self._posts = {
            program.name: Post(
                program,
                doors[program.name],
                data_dir,
                environment(program, doors, data_dir),
                self._patience,
                self._starting,
                self._tell,
            )
            for program in programs
        }
        self._data_dir = data_dir
        self._observe = observe
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._state = SuiteState.STARTING
        self._note = ""
        self._started = psutil.Process().create_time()

    def stop(self) -> None:
        """Ask the suite to stop in order; asked again, it is killed at once."""
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    async def run(self) -> int:
        """Run until :meth:`stop`.  Returns 0, or 1 when a service could not be brought up."""
        orphans.adopt()
        for name in self._posts:
            (self._data_dir / "run" / f"{name}.json").unlink(missing_ok=True)
        self._tell("")
        async with asyncio.TaskGroup() as group:
            announcing = group.create_task(self._announce())
            sweeping = group.create_task(self._sweep())
            await asyncio.wait([group.create_task(self._keep(post)) for post in self._posts.values()])
            announcing.cancel()
            sweeping.cancel()
        orphans.end(frozenset())
        record.record_path(self._data_dir).unlink(missing_ok=True)
        return 1 if self._state is SuiteState.FAILED else 0

    async def _keep(self, post: Post) -> None:
        """Run one post when those before it serve; end it when those after it are gone."""
        running = asyncio.create_task(self._run(post))
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if running.done() and (failure := running.exception()):
            self._state, self._note = SuiteState.FAILED, str(failure)
            self._tell("")
            self._stop.set()
        for other in self._posts.values():
            if post.program.name in (*other.program.after, *other.program.asks):
                await other.gone.wait()
        running.cancel()
        await asyncio.wait({running})
        stopping.cancel()
        await post.end(self._hurry)

    async def _run(self, post: Post) -> None:
        for name in post.program.after:
            await self._posts[name].serves.wait()
        await post.run()

    async def _announce(self) -> None:
        """Tell that everything serves, and that it is being stopped."""
        everything = asyncio.create_task(self._all_serve())
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait({everything, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not self._stop.is_set():
            self._state = SuiteState.READY
            self._tell("")
        await stopping
        everything.cancel()
        if self._state is not SuiteState.FAILED:
            self._state = SuiteState.STOPPING
            self._tell("")

    async def _all_serve(self) -> None:
        for post in self._posts.values():
            await post.serves.wait()

    async def _sweep(self) -> None:
        """End, now and then, what a crashed service left behind."""
        while True:
            await asyncio.sleep(self._patience.sweep_seconds)
            async with self._starting:
                orphans.end(frozenset(pid for post in self._posts.values() for pid in post.pids))

    def _tell(self, name: str) -> None:
        services = {post.program.name: post.recorded() for post in self._posts.values()}
        now = SuiteRecord(os.getpid(), self._started, str(self._data_dir), self._state, self._note, services)
        with suppress(FileNotFoundError):  # the folder was deleted under us: nobody reads it any more
            record.write(now)
        self._observe(now, name)
