"""The state of a soak on disk, by commit: its tests, their outcomes and the times at which they ran.

Whole files are written beside their place, synced and renamed; journals only grow, line by line.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PASSED = "passed"


class Busy(Exception):
    """Another process runs this soak."""


@dataclass(frozen=True, slots=True)
class PlannedTest:
    """A test that a soak has to run, by its pytest id; ``alone`` if it measures time or takes the machine's memory."""

    test: str
    group: str
    alone: bool

    @property
    def file(self) -> str:
        """Return the path of its file."""
        return self.test.partition("::")[0]


@dataclass(frozen=True, slots=True)
class Plan:
    """The tests below some paths, or all tests if no path is given; ``skipped`` are modules that skip themselves, and why."""

    paths: tuple[str, ...]
    tests: tuple[PlannedTest, ...]
    skipped: Mapping[str, str]

    @property
    def is_whole(self) -> bool:
        """Return whether it leaves nothing out."""
        return not self.paths

    @property
    def names_tests(self) -> bool:
        """Return whether it may leave out tests of a file that it has other tests of."""
        return any("::" in path for path in self.paths)

    @property
    def by_name(self) -> dict[str, PlannedTest]:
        """Return its tests by their ids."""
        return {test.test: test for test in self.tests}


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a test in one run."""

    test: str
    outcome: str
    seconds: float
    processor_seconds: float
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class Invocation:
    """One call of the command; one that was killed has no end."""

    begun: float
    ended: float | None
    end: str
    paths: Sequence[str]
    lanes: int
    offset: int
    yardstick_seconds: Sequence[float]
    hardware: str


@dataclass(frozen=True, slots=True)
class State:
    """The folder of one commit, or of one set of changes to it."""

    folder: Path

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from running the same soak.  Raises Busy."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Busy(f"another process runs this soak: {self.folder}") from None
            yield

    def plan(self, paths: Sequence[str]) -> Plan | None:
        """Return the plan of some paths; None if it was not made yet."""
        file = self._plan_file(paths)
        return _plan(json.loads(file.read_text())) if file.is_file() else None

    def save_plan(self, plan: Plan) -> None:
        """Keep a plan."""
        document = {
            "paths": plan.paths,
            "tests": [[each.test, each.group, each.alone] for each in plan.tests],
            "skipped": dict(plan.skipped),
        }
        write_durably(self._plan_file(plan.paths), json.dumps(document))

    def plans(self) -> list[Plan]:
        """Return every plan that was made; the whole one first."""
        files = sorted((self.folder / "plans").glob("*.json"))
        return sorted((_plan(json.loads(file.read_text())) for file in files), key=lambda plan: not plan.is_whole)

    def new_journal(self, unit: str) -> Path:
        """Return the path of the next journal; the runs of a unit's tests are ordered by it."""
        folder = self.folder / "journals"
        folder.mkdir(parents=True, exist_ok=True)
        number = sum(1 for _ in folder.glob("*.jsonl"))
        name = "".join(letter if letter.isalnum() else "-" for letter in unit)
        path = folder / f"{number:05}-{name}.jsonl"
        path.touch()
        return path

    def outcomes(self) -> dict[str, list[Outcome]]:
        """Return what became of each test that has run, in the order of its runs."""
        found: dict[str, list[Outcome]] = {}
        for journal in sorted((self.folder / "journals").glob("*.jsonl")):
            for outcome in read_journal(journal).outcomes:
                found.setdefault(outcome.test, []).append(outcome)
        return found

    def save_invocation(self, number: int, invocation: Invocation) -> None:
        """Keep when and how a call ran."""
        document = {name: getattr(invocation, name) for name in Invocation.__slots__}
        write_durably(self.folder / "invocations" / f"{number:04}.json", json.dumps(document))

    def invocations(self) -> list[Invocation]:
        """Return all calls so far."""
        files = sorted((self.folder / "invocations").glob("*.json"))
        return [Invocation(**json.loads(file.read_text())) for file in files]

    def _plan_file(self, paths: Sequence[str]) -> Path:
        name = hashlib.sha256("\n".join(paths).encode()).hexdigest()[:16] if paths else "whole"
        return self.folder / "plans" / f"{name}.json"


@dataclass(frozen=True, slots=True)
class JournalContents:
    """The contents of a journal: outcomes, and the test that began but has no outcome."""

    outcomes: tuple[Outcome, ...]
    unfinished: str | None


def read_journal(path: Path) -> JournalContents:
    """Read a journal.  A failure after the stop signal is caused by the stop and does not count."""
    outcomes, unfinished, stopping = [], None, False
    for text in path.read_bytes().split(b"\n"):
        try:
            line = json.loads(text)
        except ValueError:  # empty, or the writer was killed within it
            continue
        stopping = stopping or "stopping" in line
        if "begun" in line:
            unfinished = line["begun"]
        elif "test" in line:
            unfinished = None if line["test"] == unfinished else unfinished
            if line["outcome"] == PASSED or not stopping:
                outcomes.append(_outcome(line))
    return JournalContents(tuple(outcomes), unfinished)


def append(path: Path, line: Mapping[str, Any]) -> None:
    """Add a line to a journal, on disk before this returns."""
    with path.open("ab") as journal:
        # A process that was killed while it wrote leaves an incomplete last line.
        journal.write(b"\n" + json.dumps(line).encode() + b"\n")
        journal.flush()
        os.fsync(journal.fileno())


def write_durably(path: Path, text: str) -> None:
    """Write a file whole or not at all, on disk before this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _plan(document: Mapping[str, Any]) -> Plan:
    tests = tuple(PlannedTest(*each) for each in document["tests"])
    return Plan(tuple(document["paths"]), tests, document["skipped"])


def _outcome(line: Mapping[str, Any]) -> Outcome:
    return Outcome(
        test=line["test"],
        outcome=line["outcome"],
        seconds=line.get("seconds", 0.0),
        processor_seconds=line.get("processor", 0.0),
        reason=line.get("reason", ""),
        at=line.get("at", 0.0),
    )
