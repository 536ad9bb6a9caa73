"""The process that reads one dataset: `python -m services.trainer.data.checking_child BASE_FOLDER ORDER <DATASET`.

It says a line when it is ready, takes its limits, says problems as it finds them, some in a line, answers with one
line of JSON and ends.  Invariant: nothing of the dataset is read before the limits hold.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from services.chassis.child_side import OUT_OF_MEMORY, confine, leave_out, own_output, processor_time, write_whole
from services.trainer.data import checking, reading, rows
from services.trainer.data.encoding import Preparation, default_objective
from services.trainer.data.examples import ChatEncoder
from services.trainer.data.inspection import inspect
from services.trainer.data.labels import distinct_labels
from services.trainer.data.preview import preview
from services.trainer.data.reading import recognise
from services.trainer.data.report import Asked
from services.trainer.recipes import reading as recipe_reading
from services.trainer.settings import Objective, Supervision

# Problems in one line of what is said.
_TOGETHER = 100


class Problems:
    """Says problems and warnings, some at a time; of either beyond what a report keeps only how many."""

    def __init__(self, say: Callable[[dict[str, object]], None]) -> None:
        self._say = say
        self._held: list[dict[str, object]] = []
        # By whether it is fatal: however many warnings come before the first fault, it is named.
        self._counts: Counter[bool] = Counter()
        # The last line of each kind that is not said.
        self._unsaid: dict[bool, int] = {}

    def take(self, problem: rows.Problem) -> None:
        """Say it, with the next ones."""
        self._counts[problem.fatal] += 1
        if self._counts[problem.fatal] > checking.MAX_KEPT_PROBLEMS:
            self._unsaid[problem.fatal] = problem.line
            return
        self._hold(problem)

    def _hold(self, problem: rows.Problem) -> None:
        self._held.append(asdict(problem))
        if len(self._held) == _TOGETHER:
            self.flush()

    def end(self) -> None:
        """Say those that are still held, and how many are not said."""
        for fatal, line in self._unsaid.items():
            there_are = f"there are {self._counts[fatal]} {'problems' if fatal else 'warnings'} up to this line"
            listed = f"the first {checking.MAX_KEPT_PROBLEMS} are listed; mend these and check again"
            self._hold(rows.Problem(line, "", f"{there_are}, of which {listed}", fatal=False))
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
        first = next(iter(reading.read(file)))
        fields = sorted(first.fields) if isinstance(first, rows.Labelled) else []
        file.seek(0)
        return {"fields": fields, "labels": distinct_labels(reading.read(file))}
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


def main(base_folder: Path, order: dict[str, Any]) -> int:
    """Answer; return the exit code."""
    lines = own_output()
    # Counting tokens needs no torch, whose import takes seconds and most of a gigabyte.
    leave_out("torch")
    encoder = ChatEncoder.load(base_folder)

    def say(found: dict[str, object]) -> None:
        write_whole(lines, json.dumps(found).encode() + b"\n")

    lines.write(b"ready\n")
    confine(order["memory_bytes"])
    problems = Problems(say)
    try:
        with processor_time(order["cpu_seconds"]):
            found = answer(sys.stdin.buffer, encoder, order, problems)
            problems.end()
            say(found)
    except MemoryError:
        return OUT_OF_MEMORY
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), json.loads(sys.argv[2])))
