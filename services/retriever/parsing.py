"""The leaf that parses: in a child process with limits, because nobody vouches for the text.

Invariant: whatever a document does to the parser (time, memory, a crash), this process
goes on, and the document alone fails, with a sentence that says so.
"""

import asyncio
import math
import multiprocessing
import os
import resource
import signal
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from services.chassis.errors import Failure, Reason
from services.chassis.processes import die_with_parent
from services.retriever.blocks import Outline, outline


class Parser(Protocol):
    """Texts to blocks."""

    async def outline(self, name: str, text: str, *, markdown: bool) -> Outline:
        """The blocks of a text.  Raises DOCUMENT_NOT_PARSED; ``name`` is for its message."""


# A child that neither ends nor uses its time is stopped all the same.
_WALL_FACTOR = 20


@dataclass(frozen=True, slots=True)
class Limits:
    """What parsing one document may take: processor time and address space."""

    seconds: float
    memory_bytes: int


@dataclass(slots=True)
class ChildParser:
    """Parses in one child process, which is replaced when a document breaks it."""

    limits: Limits
    _pool: ProcessPoolExecutor | None = None
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def outline(self, name: str, text: str, *, markdown: bool) -> Outline:
        """As the Protocol says."""
        async with self._turn:
            pool = self._pool or self._start()
            parsing = asyncio.get_running_loop().run_in_executor(pool, _parse, text, markdown, self.limits.seconds)
            try:
                async with asyncio.timeout(self.limits.seconds * _WALL_FACTOR):
                    return await parsing
            except TimeoutError:
                await self.stop()
                raise _unparsed(name, f"it took more than {self.limits.seconds:g} s of processor time") from None
            except (BrokenProcessPool, MemoryError, RecursionError):
                await self.stop()
                raise _unparsed(
                    name, f"it took more than {self.limits.memory_bytes} bytes of memory, or crashed"
                ) from None
            except asyncio.CancelledError:
                await self.stop()
                raise

    async def stop(self) -> None:
        """End the child, whatever it does."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        # The pool has no public way to end a child that is busy; without this it would be waited for.
        for child in list((getattr(pool, "_processes", None) or {}).values()):
            child.kill()
        await asyncio.to_thread(pool.shutdown, wait=True, cancel_futures=True)

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
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    os.nice(5)


def _parse(text: str, markdown: bool, seconds: float) -> Outline:
    """Processor time is limited, not wall time: a busy machine must not fail a document."""
    signal.signal(signal.SIGXCPU, _out_of_time)
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = math.ceil(used.ru_utime + used.ru_stime + seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))
    try:
        return outline(text, markdown=markdown)
    finally:
        resource.setrlimit(resource.RLIMIT_CPU, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def _out_of_time(*_: object) -> None:
    raise TimeoutError


def _unparsed(name: str, problem: str) -> Failure:
    return Failure(Reason.DOCUMENT_NOT_PARSED, name=name, problem=problem)
