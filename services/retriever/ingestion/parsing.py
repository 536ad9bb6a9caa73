"""The leaf that reads and splits: in a child process with limits, because nobody vouches for a document.

Invariant: whatever a document does to the child (time, memory, a crash), this process goes on, and the document alone
fails, with a sentence that says so.
"""

import asyncio
import math
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from typing import Protocol, TypeVar

from services.chassis.errors import Failure, Reason
from services.chassis.processes import die_with_parent
from services.retriever.formats.convert import Raw, convert
from services.retriever.formats.unreadable import Unreadable
from services.retriever.formats.writer import Converted
from services.retriever.ingestion.confinement import confine
from services.retriever.text.blocks import Outline, outline

T = TypeVar("T")


class Parser(Protocol):
    """Documents to texts, and texts to blocks."""

    async def outline(self, name: str, text: str, *, markdown: bool) -> Outline:
        """The blocks of a text.  Raises DOCUMENT_NOT_PARSED; ``name`` is for its message."""

    async def convert(self, name: str, raw: Raw) -> Converted:
        """The text of a document with its blocks.  Raises DOCUMENT_UNREADABLE; ``name`` is for its message."""


# A child that neither ends nor uses its time is stopped all the same.
_WALL_FACTOR = 20
# Of processor time, after which a library that never comes back to Python is killed.
_GRACE_SECONDS = 2


@dataclass(frozen=True, slots=True)
class Limits:
    """What reading one document may take: processor time and address space."""

    seconds: float
    memory_bytes: int


@dataclass(slots=True)
class ChildParser:
    """Works in one child process, which is replaced when a document breaks it."""

    limits: Limits
    _pool: ProcessPoolExecutor | None = None
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def outline(self, name: str, text: str, *, markdown: bool) -> Outline:
        """As the Protocol says."""
        return await self._do(lambda problem: _unparsed(name, problem), _parse, text, markdown)

    async def convert(self, name: str, raw: Raw) -> Converted:
        """As the Protocol says."""

        def failed(problem: str) -> Failure:
            return _unreadable(name, Unreadable(problem, "Split it, or send its text."))

        try:
            return await self._do(failed, convert, raw)
        except Unreadable as error:
            raise _unreadable(name, error) from None

    async def _do(self, failed: Callable[[str], Failure], work: Callable[..., T], *arguments: object) -> T:
        """``work(*arguments)`` in the child; ``failed`` makes a failure of what went wrong with it."""
        async with self._turn:
            pool = self._pool or self._start()
            working = asyncio.get_running_loop().run_in_executor(pool, _timed, self.limits.seconds, work, *arguments)
            out_of_time = f"it took more than {self.limits.seconds:g} s of processor time"
            try:
                async with asyncio.timeout(self.limits.seconds * _WALL_FACTOR):
                    return await working
            except TimeoutError:
                await self.stop()
                raise failed(out_of_time) from None
            except (BrokenProcessPool, MemoryError, RecursionError):
                children = await self.stop()
                if any(child.exitcode == -signal.SIGPROF for child in children):
                    raise failed(out_of_time) from None
                raise failed(f"it took more than {self.limits.memory_bytes} bytes of memory, or crashed") from None
            except asyncio.CancelledError:
                await self.stop()
                raise

    async def stop(self) -> list[BaseProcess]:
        """End the child, whatever it does; what it was."""
        pool, self._pool = self._pool, None
        if pool is None:
            return []
        # The pool has no public way to end a child that is busy; without this it would be waited for.
        children = list((getattr(pool, "_processes", None) or {}).values())
        for child in children:
            child.kill()
        await asyncio.to_thread(pool.shutdown, wait=True, cancel_futures=True)
        return children

    def _start(self) -> ProcessPoolExecutor:
        self._pool = ProcessPoolExecutor(
            max_workers=1,
            # Forking a process that runs gRPC's threads is not safe.
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_limit,
            initargs=(self.limits.memory_bytes, os.getpid()),
            # A library that leaks does so for a while only.
            max_tasks_per_child=1000,
        )
        return self._pool


@asynccontextmanager
async def opened(limits: Limits) -> AsyncIterator[ChildParser]:
    """A parser whose child ends with the block."""
    parser = ChildParser(limits)
    try:
        yield parser
    finally:
        await parser.stop()


def _limit(memory_bytes: int, parent: int) -> None:
    die_with_parent(parent)
    sys.dont_write_bytecode = True
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(5)
    confine()


def _timed(seconds: float, work: Callable[..., T], *arguments: object) -> T:
    """Processor time is limited, not wall time: a busy machine must not fail a document."""
    signal.signal(signal.SIGXCPU, _out_of_time)
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = math.ceil(used.ru_utime + used.ru_stime + seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))
    # A library that never comes back to Python sees no handler: this signal has none, and kills.
    signal.setitimer(signal.ITIMER_PROF, seconds + _GRACE_SECONDS)
    try:
        return work(*arguments)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_CPU, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def _parse(text: str, markdown: bool) -> Outline:
    return outline(text, markdown=markdown)


def _out_of_time(*_: object) -> None:
    raise TimeoutError


def _unparsed(name: str, problem: str) -> Failure:
    return Failure(Reason.DOCUMENT_NOT_PARSED, name=name, problem=problem)


def _unreadable(name: str, error: Unreadable) -> Failure:
    return Failure(Reason.DOCUMENT_UNREADABLE, name=name, problem=error.problem, remedy=error.remedy)
