"""The process that reads one dataset: `python -m services.trainer.data.checking_child BASE_FOLDER ORDER <DATASET`.

It says a line when it is ready, takes its limits, says problems as it finds them, some in a line, answers with one
line of JSON and ends.  Invariant: nothing of the dataset is read before the limits hold.
"""

import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from services.trainer.data import checking, reading, rows
from services.trainer.data.encoding import Preparation, default_objective
from services.trainer.data.examples import ChatEncoder
from services.trainer.data.inspection import inspect
from services.trainer.data.preview import preview
from services.trainer.data.reading import recognise
from services.trainer.data.report import Asked
from services.trainer.recipes import reading as recipe_reading
from services.trainer.settings import Objective, Supervision

# Exit status when Python itself was refused more memory.
OUT_OF_MEMORY = 71
# Problems in one line of what is said.
_TOGETHER = 100


class Problems:
    """Says problems, some at a time; of those beyond what a report keeps nothing."""

    def __init__(self, say: Callable[[dict[str, object]], None]) -> None:
        self._say = say
        self._held: list[dict[str, object]] = []
        self._count = 0

    def take(self, problem: rows.Problem) -> None:
        """Say it, with the next ones."""
        self._count += 1
        if self._count > checking.MAX_KEPT_PROBLEMS:
            return
        self._held.append(asdict(problem))
        if len(self._held) == _TOGETHER:
            self.flush()

    def flush(self) -> None:
        """Say those that are still held."""
        if self._held:
            self._say({"problems": self._held})
        self._held = []


def asked_from(order: dict[str, Any]) -> Asked:
    """What `asdict` made of an Asked."""
    objective = Objective(order["objective"]) if order["objective"] else None
    return Asked(**{**order, "objective": objective, "supervision": Supervision(order["supervision"])})


def answer(file: BinaryIO, encoder: ChatEncoder, order: dict[str, Any], problems: Problems) -> dict[str, object]:
    """Do what `checker.Checker` orders; the answer is JSON."""
    if order["task"] == "count":
        expected = rows.Format(order["expected"]) if order["expected"] else None
        found = checking.check(file, encoder, expected, problems.take)
        return {"bad": found} if isinstance(found, int) else {"counted": asdict(found)}
    if order["task"] == "fields":
        records = (row for row in reading.read(file) if isinstance(row, rows.Labelled))
        return {"fields": sorted(next(records).fields)}
    asked = asked_from(order["asked"])
    if order["task"] == "inspect":
        other = order["validation_descriptor"]
        validation = os.fdopen(other, "rb") if other is not None else None
        return {"report": asdict(inspect(file, validation, encoder, asked, problems.take))}
    objective = asked.objective or default_objective(recognise(file) or rows.Format.CHAT)
    preparation = Preparation(encoder, objective, asked.supervision, asked.max_row_tokens)
    found_rows = recipe_reading.read(file, asked.recipe, asked.seed)
    shown, following = preview(found_rows, preparation, encoder.tokenizer, order["offset"], order["rows"])
    return {"rows": [asdict(row) for row in shown], "next_offset": following}


def confine(cpu_seconds: float, memory_bytes: int) -> None:
    """Bound what this process takes from now on; let it write no file and dump no core.

    The limits end it by themselves, also in the middle of native code: SIGPROF for time, a refused allocation
    for memory.
    """
    held_bytes = _data_bytes()
    for limit, value in (
        (resource.RLIMIT_DATA, held_bytes + memory_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    ):
        resource.setrlimit(limit, (value, value))
    signal.setitimer(signal.ITIMER_PROF, cpu_seconds)


def _data_bytes() -> int:
    """What already counts against RLIMIT_DATA."""
    with open("/proc/self/status", encoding="ascii") as status:
        line = next(line for line in status if line.startswith("VmData:"))
    return int(line.split()[1]) * 1024


def main(base_folder: Path, order: dict[str, Any]) -> int:
    """Answer; return the exit code."""
    # Libraries print to standard output; our lines keep a descriptor of their own.
    lines = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    # Counting tokens needs no torch, whose import takes seconds and most of a gigabyte: here it counts as not installed.
    sys.modules["torch"] = None  # type: ignore[assignment]  # the typing of sys.modules leaves out this use of it
    encoder = ChatEncoder.load(base_folder)

    def say(found: dict[str, object]) -> None:
        said = json.dumps(found).encode() + b"\n"
        while said:
            said = said[lines.write(said) :]

    lines.write(b"ready\n")
    confine(order["cpu_seconds"], order["memory_bytes"])
    problems = Problems(say)
    try:
        found = answer(sys.stdin.buffer, encoder, order, problems)
        problems.flush()
        say(found)
    except MemoryError:
        return OUT_OF_MEMORY
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), json.loads(sys.argv[2])))
