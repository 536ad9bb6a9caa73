"""Has datasets checked where their rows can harm nobody: each in a child process with limits.

Invariants: no row of an uploader's is parsed in the service; a tenant has one check at a
time, so that however many files it sends, others get their turn; and a check that could
not be done is never held against the file.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from weakref import WeakValueDictionary

from services.chassis.errors import Failure, Reason
from services.chassis.processes import Child, spawn
from services.trainer.data.checking import Counted, Flawed
from services.trainer.data.checking_child import OUT_OF_MEMORY
from services.trainer.data.rows import Format, Problem

# 1000 problems of a few hundred bytes fit many times.
_ANSWER_BYTES = 4 * 1024 * 1024
# What a process ends with that was refused memory in native code, or whose stack was too small.
_MEMORY = frozenset({OUT_OF_MEMORY, -signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS})


@dataclass(frozen=True, slots=True)
class Budget:
    """What checking one file may take.

    Processor time in seconds, more for larger files; memory beyond that of the empty child; seconds until the child
    is ready.  The slowest rows (as long as can be, of as many turns as can be) take a quarter of the time given here.
    """

    cpu_seconds: float = 30.0
    bytes_per_cpu_second: int = 64 * 1024
    memory_bytes: int = 1024**3
    start_seconds: float = 120.0
    # A child that uses no processor time is given up all the same; a busy machine alone must not be the reason.
    wall_factor: float = 20.0


class Checker:
    """Reads datasets for the base in `base_folder`, at most `at_a_time` at once."""

    def __init__(self, base_folder: Path, budget: Budget | None = None, at_a_time: int = 2) -> None:
        self._base_folder = base_folder
        self._budget = budget or Budget()
        self._places = asyncio.Semaphore(at_a_time)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def count(self, tenant: str, path: Path, expected: Format | None) -> Counted | Flawed:
        """Return what the file at `path` holds or what is wrong.  Raises DATASET_UNCHECKED, NOT_READY."""
        found = await self._ask(tenant, path, {"expected": expected.value if expected else None})
        if "problems" in found:
            return Flawed(_problems(found), found["count"])
        return Counted(**{**found, "format": Format(found["format"])})

    async def warnings(self, tenant: str, path: Path, max_row_tokens: int) -> list[Problem]:
        """Return problems and rows over the limit.  Raises DATASET_UNCHECKED, NOT_READY, FileNotFoundError."""
        return list(_problems(await self._ask(tenant, path, {"max_row_tokens": max_row_tokens})))

    async def _ask(self, tenant: str, path: Path, task: Mapping[str, object]) -> dict[str, Any]:
        budget = self._budget
        async with self._turns.setdefault(tenant, asyncio.Lock()), self._places:
            # The child is given the open file: whoever deletes the dataset now disturbs nothing.
            with path.open("rb") as file:
                cpu_seconds = budget.cpu_seconds + os.fstat(file.fileno()).st_size / budget.bytes_per_cpu_second
                order = {"cpu_seconds": cpu_seconds, "memory_bytes": budget.memory_bytes, **task}
                child = await self._start(json.dumps(order), file)
            try:
                if not await _line(child, budget.start_seconds):
                    raise _not_ready("its process does not start")
                answer = await _line(child, cpu_seconds * budget.wall_factor)
                status = await child.wait()
            except TimeoutError as error:
                raise _not_ready("the machine is too busy") from error
            finally:
                if child.process.returncode is None:
                    await asyncio.shield(child.kill())
        if status != 0:
            raise _failure(status, cpu_seconds, budget.memory_bytes)
        found: dict[str, Any] = json.loads(answer)
        return found

    async def _start(self, order: str, file: BinaryIO) -> Child:
        environment = {
            "PYTHONPATH": str(Path(__file__).parents[3]),
            "PATH": "/usr/bin:/bin",
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
            # What pyarrow unpacks counts as what it is, and nothing is kept for later.
            "ARROW_DEFAULT_MEMORY_POOL": "system",
        }
        return await spawn(
            [sys.executable, "-m", "services.trainer.data.checking_child", self._base_folder, order],
            env=environment,
            # Behind what serves, before what trains.
            prepare=_give_way,
            # It starts nothing that could outlive it.
            guarded=False,
            stdin=file,
            stdout=asyncio.subprocess.PIPE,
            # What it would say of an exception may quote the rows.
            stderr=asyncio.subprocess.DEVNULL,
            limit=_ANSWER_BYTES,
        )


def _give_way() -> None:
    os.nice(5)


async def _line(child: Child, seconds: float) -> bytes:
    """The child's next line; empty when it ended instead.  Raises TimeoutError."""
    assert child.process.stdout is not None
    async with asyncio.timeout(seconds):
        return await child.process.stdout.readline()


def _failure(status: int, cpu_seconds: float, memory_bytes: int) -> Exception:
    """What a child's end says: of the file when it ran into a limit, of us otherwise."""
    if status == -signal.SIGPROF:
        return Failure(Reason.DATASET_UNCHECKED, limit=f"{cpu_seconds:.0f} s of processor time")
    if status in _MEMORY:
        return Failure(Reason.DATASET_UNCHECKED, limit=f"{memory_bytes >> 20} MiB of memory")
    if status < 0:
        return _not_ready("its process was ended")
    return RuntimeError(f"the check of a dataset ended with exit status {status}")


def _not_ready(why: str) -> Failure:
    return Failure(Reason.NOT_READY, service="The check of datasets", why=why, retry_after_seconds=5.0)


def _problems(found: Mapping[str, Any]) -> tuple[Problem, ...]:
    return tuple(Problem(**entry) for entry in found["problems"])
