"""The search for one fault: plant it, run the test files that may see it, and confirm what fails.

A test that fails with the fault is run once without it, in a clean worktree.  One that fails there too is broken or depends on
the machine: it finds nothing, and the rest of its file runs without it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.load.mutants.catalogue import Fault, Misplaced
from tests.load.mutants.runs import Ended, Outcome
from tests.load.mutants.state import State, Trial
from tests.load.mutants.trees import write

# How many files of a folder run together, by kind: unit tests start nothing, and contract tests share what they start, so
# that what costs most is to begin a run.
_TOGETHER = {"unit": 8, "contract": 4}
# A file in which so many tests fail without the fault says nothing about it.
_MOST_BROKEN = 5


class Runs(Protocol):
    """Runs tests in one worktree."""

    def run(self, tests: Sequence[str], seconds: float, *, without: Sequence[str] = (), whole: bool = False) -> Outcome:
        """Run them until the first that fails.  Raises Stopped, Unusable."""


@dataclass(frozen=True, slots=True)
class Searcher:
    """Searches in one worktree, ``tree``, which ``reset`` sets back.

    ``affected`` returns the test files whose sampled families a change of the worktree has run whole; ``clean`` runs
    tests in the clean worktree, which lanes share.
    """

    tree: Path
    reset: Callable[[Path], None]
    state: State
    faulty: Runs
    clean: Runs
    clean_turn: threading.Lock
    affected: Callable[[Path], Sequence[str]]
    file_seconds: float
    deadline: float

    def search(self, fault: Fault, files: Sequence[str]) -> Trial:
        """Go on with a fault's trial until it has ended or the turn is over.  Raises Stopped, Unusable."""
        trial = self.state.trial(fault.key)
        if trial.ended:
            return trial
        self.reset(self.tree)
        try:
            path = fault.path(self.tree)
            source = path.read_text()
            write(path, fault.planted(source))
        except Misplaced as why:
            trial.misplaced, trial.ended = str(why), True
            self.state.save()
            return trial
        try:
            self._search(trial, files)
        finally:
            write(path, source)
            self.state.save()
        return trial

    def _search(self, trial: Trial, files: Sequence[str]) -> None:
        affected = set(self.affected(self.tree))
        for some in _batches([*files, *sorted(affected - set(files))], trial, affected):
            if time.monotonic() >= self.deadline:
                return
            self._run(trial, some, whole=some[0] in affected)
            self.state.save()
            if trial.found:
                break
        trial.ended = True

    def _run(self, trial: Trial, files: Sequence[str], *, whole: bool) -> None:
        """Run some files until one of their tests finds the fault or all of them have passed."""
        limit_seconds = self.file_seconds * len(files)
        while True:
            outcome = self.faulty.run(files, limit_seconds, without=trial.broken, whole=whole)
            trial.seconds += outcome.seconds
            if outcome.ended is Ended.PASSED:
                trial.passed += files
                return
            if len(files) > 1 and not _names_tests(outcome.failed):
                self._run_apart(trial, files, whole=whole)
                return
            # One that runs although it was left out cannot be left out.
            again = _names_tests(outcome.failed) and set(outcome.failed) <= set(trial.broken)
            broken = outcome.failed if again else self._broken(trial, outcome, whole=whole)
            if not broken:
                self._found(trial, outcome.failed, whole=whole)
                return
            if again or not _names_tests(broken) or len(_broken_in(trial, files)) >= _MOST_BROKEN:
                (trial.slow if outcome.ended is Ended.TIMED_OUT else trial.passed).extend(files)
                return

    def _run_apart(self, trial: Trial, files: Sequence[str], *, whole: bool) -> None:
        """Run files one by one to learn which of them failed."""
        for file in files:
            if not trial.found:
                self._run(trial, [file], whole=whole)

    def _found(self, trial: Trial, tests: Sequence[str], *, whole: bool) -> None:
        """Note which tests found the fault, and whether they do each time."""
        again = self.faulty.run(tests, self.file_seconds * len(tests), whole=whole)
        trial.seconds += again.seconds
        trial.found_by, trial.found_again = ", ".join(tests), again.ended is not Ended.PASSED

    def _broken(self, trial: Trial, outcome: Outcome, *, whole: bool) -> list[str]:
        """Return which of the tests that failed fail without the fault, too, and note them; none where the fault is seen."""
        with self.clean_turn:
            without = self.clean.run(
                outcome.failed, self.file_seconds * len(outcome.failed), without=trial.broken, whole=whole
            )
        trial.seconds += without.seconds
        if without.ended is Ended.PASSED:
            return []
        broken = list(without.failed)
        trial.broken += [test for test in broken if test not in trial.broken]
        return broken


def _batches(files: Sequence[str], trial: Trial, affected: set[str]) -> Iterator[list[str]]:
    """Yield the files that are left in runs, each of files of one kind that run whole, or do not."""
    batch: list[str] = []
    tried = trial.tried
    for file in (file for file in files if file not in tried):
        if batch and (
            _group(file) != _group(batch[0])
            or (file in affected) != (batch[0] in affected)
            # The nearest file alone: it finds most faults.
            or batch[0] == files[0]
            or len(batch) >= _TOGETHER.get(_kind(file), 1)
        ):
            yield batch
            batch = []
        batch.append(file)
    if batch:
        yield batch


def _kind(file: str) -> str:
    return file.split("/")[1]


def _group(file: str) -> str:
    """Return what the files of one run share: their kind, and of all but unit tests the folder."""
    return _kind(file) if _kind(file) == "unit" else file.rpartition("/")[0]


def _names_tests(failed: Sequence[str]) -> bool:
    """Whether what failed are single tests: a run that hangs, or whose process dies, names its files alone."""
    return all("::" in test for test in failed)


def _broken_in(trial: Trial, files: Sequence[str]) -> list[str]:
    return [test for test in trial.broken if test.partition("::")[0] in files]
