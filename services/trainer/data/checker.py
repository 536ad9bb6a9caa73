"""Has datasets checked where their rows can harm nobody: each in a child process with limits.

Invariants: no row of an uploader's is parsed in the service; a tenant has one check at a
time, so that however many files it sends, others get their turn; and a check that could
not be done is never held against the file.
"""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO
from weakref import WeakValueDictionary

from services.chassis import processes
from services.chassis.child_side import ran_out_of_memory, ran_out_of_time
from services.chassis.errors import Failure, Reason
from services.chassis.processes import Child
from services.trainer.data.checking import MAX_NAMED_PROBLEMS, Counted, Flawed
from services.trainer.data.confined import ENVIRONMENT
from services.trainer.data.preview import PreviewRow
from services.trainer.data.report import Asked, Lengths, Pairs, Report
from services.trainer.data.rows import Format, Problem
from services.trainer.settings import Objective
from services.trainer.texts import fit

# A hundred problems of a few hundred bytes fit many times, as do the rows of a preview.
_ANSWER_BYTES = 8 * 1024 * 1024

Say = Callable[[Sequence[Problem]], None]


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
    """Reads datasets, at most `at_a_time` at once; for the base in `base_folder` where the caller names none."""

    def __init__(self, base_folder: Path, budget: Budget | None = None, at_a_time: int = 2) -> None:
        self._base_folder = base_folder
        self._budget = budget or Budget()
        self._places = asyncio.Semaphore(at_a_time)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def count(
        self, tenant: str, path: Path, expected: Format | None, say: Say = lambda _: None
    ) -> Counted | Flawed:
        """Return what the file at `path` holds or what is wrong; `say` hears all problems and warnings, some at a time.

        Raises DATASET_UNCHECKED, NOT_READY.
        """
        first: list[Problem] = []

        def hear(problems: Sequence[Problem]) -> None:
            fatal = [problem for problem in problems if problem.fatal]
            first.extend(fatal[: MAX_NAMED_PROBLEMS - len(first)])
            say(problems)

        with path.open("rb") as file:
            task = {"task": "count", "expected": expected.value if expected else None}
            found = await self._ask(tenant, self._base_folder, file, task, hear)
        if "bad" in found:
            return Flawed(tuple(first), found["bad"])
        counted = found["counted"]
        return Counted(**{**counted, "format": Format(counted["format"])})

    async def inspect(
        self, tenant: str, base_folder: Path, path: Path, validation: Path | None, asked: Asked, say: Say
    ) -> Report:
        """Return the report of a dataset as an order would train on it; `say` hears what is said of its lines.

        Raises DATASET_UNCHECKED, NOT_READY, FileNotFoundError.
        """
        with ExitStack() as opened:
            file = opened.enter_context(path.open("rb"))
            other = opened.enter_context(validation.open("rb")) if validation is not None else None
            task = {
                "task": "inspect",
                "asked": asdict(asked),
                "validation_descriptor": other.fileno() if other is not None else None,
            }
            found = await self._ask(tenant, base_folder, file, task, say, other)
        return _report(found["report"])

    async def preview(
        self, tenant: str, base_folder: Path, path: Path, asked: Asked, offset: int, rows: int
    ) -> tuple[list[PreviewRow], int]:
        """As `preview.preview`.  Raises DATASET_UNCHECKED, NOT_READY, FileNotFoundError."""
        with path.open("rb") as file:
            task = {"task": "preview", "asked": asdict(asked), "offset": offset, "rows": rows}
            found = await self._ask(tenant, base_folder, file, task, lambda _: None)
        return [_preview_row(row) for row in found["rows"]], found["next_offset"]

    async def fields(self, tenant: str, path: Path) -> tuple[frozenset[str], int]:
        """The fields of the first record of a file of records, none of others; and how many labels its answers are.

        The latter is 0 where they are none.  Raises DATASET_UNCHECKED, NOT_READY, FileNotFoundError.
        """
        with path.open("rb") as file:
            found = await self._ask(tenant, self._base_folder, file, {"task": "fields"}, lambda _: None)
        return frozenset(found["fields"]), found["labels"]

    async def _ask(
        self,
        tenant: str,
        base_folder: Path,
        file: BinaryIO,
        task: Mapping[str, object],
        say: Say,
        other: BinaryIO | None = None,
    ) -> dict[str, Any]:
        """Have a child do `task`.  It is given the open files: whoever deletes a dataset now disturbs nothing."""
        budget = self._budget
        size_bytes = sum(os.fstat(opened.fileno()).st_size for opened in (file, other) if opened is not None)
        cpu_seconds = budget.cpu_seconds + size_bytes / budget.bytes_per_cpu_second
        order = json.dumps({"cpu_seconds": cpu_seconds, "memory_bytes": budget.memory_bytes, **task})
        async with self._turns.setdefault(tenant, asyncio.Lock()), self._places:
            child = await self._start(base_folder, order, file, other)
            try:
                async with asyncio.timeout(budget.start_seconds):
                    if not await _line(child):
                        raise _not_ready("its process does not start")
                async with asyncio.timeout(cpu_seconds * budget.wall_factor):
                    answer = await _answer(child, say)
                    status = await child.wait()
            except TimeoutError as error:
                raise _not_ready("the machine is too busy") from error
            finally:
                if child.process.returncode is None:
                    await asyncio.shield(child.kill())
        if status != 0:
            raise _failure(status, cpu_seconds, budget.memory_bytes)
        return answer

    async def _start(self, base_folder: Path, order: str, file: BinaryIO, other: BinaryIO | None) -> Child:
        return await processes.spawn(
            [sys.executable, "-m", "services.trainer.data.checking_child", base_folder, order],
            env=ENVIRONMENT,
            # Behind what serves, before what trains.
            prepare=_give_way,
            # It starts nothing that could outlive it.
            guarded=False,
            stdin=file,
            pass_fds=() if other is None else (other.fileno(),),
            stdout=asyncio.subprocess.PIPE,
            # What it would say of an exception may quote the rows.
            stderr=asyncio.subprocess.DEVNULL,
            limit=_ANSWER_BYTES,
        )


def _give_way() -> None:
    os.nice(5)


async def _line(child: Child) -> bytes:
    """The child's next line; empty when it ended instead."""
    assert child.process.stdout is not None
    return await child.process.stdout.readline()


async def _answer(child: Child, say: Say) -> dict[str, Any]:
    """What the child answers behind the problems that it says; nothing when it ended instead."""
    while line := await _line(child):
        found: dict[str, Any] = json.loads(line)
        if "problems" not in found:
            return found
        say([_problem(entry) for entry in found["problems"]])
    return {}


def _problem(entry: dict[str, Any]) -> Problem:
    """What the child said; it may quote the rows."""
    return Problem(**(entry | {name: fit(entry[name]) for name in ("field", "message")}))


def _failure(status: int, cpu_seconds: float, memory_bytes: int) -> Exception:
    """What a child's end says: of the file when it ran into a limit, of us otherwise."""
    if ran_out_of_time(status):
        return Failure(Reason.DATASET_UNCHECKED, limit=f"{cpu_seconds:.0f} s of processor time")
    if ran_out_of_memory(status):
        return Failure(Reason.DATASET_UNCHECKED, limit=f"{memory_bytes >> 20} MiB of memory")
    if status < 0:
        return _not_ready("its process was ended")
    return RuntimeError(f"the check of a dataset ended with exit status {status}")


def _not_ready(why: str) -> Failure:
    return Failure(Reason.NOT_READY, service="The check of datasets", why=why, retry_after_seconds=5.0)


def _report(found: dict[str, Any]) -> Report:
    """What `asdict` made of a Report, through JSON."""
    lengths = found["lengths"] | {"buckets": _tuples(found["lengths"]["buckets"])}
    return Report(
        **{
            **found,
            "objective": Objective(found["objective"]),
            "lengths": Lengths(**lengths),
            "pairs": Pairs(**found["pairs"]),
            "labels": _tuples(found["labels"]),
            "left_out": _tuples(found["left_out"]),
            "warnings": tuple(found["warnings"]),
        }
    )


def _preview_row(found: dict[str, Any]) -> PreviewRow:
    return PreviewRow(**{**found, "tokens": _tuples(found["tokens"]), "rejected": _tuples(found["rejected"])})


def _tuples(entries: Sequence[Sequence[Any]]) -> tuple[tuple[Any, Any], ...]:
    return tuple((first, second) for first, second in entries)
