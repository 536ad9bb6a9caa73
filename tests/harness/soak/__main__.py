"""`make soak`: run every test in full, with all cases, in one command that can be interrupted and resumed.

A repeat goes on with what has not passed on this commit; what failed runs again.  At its end `tests/soak.json` names the
files that have passed, and `tests/recorded_seconds.json` their seconds: commit both.  A soak of a later commit, on any
machine, then runs the files that the changes since can break, and those that no soak has run.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from services.ops.cache import cache_dir
from tests.harness import yardstick
from tests.harness.affected import costs, soak_record
from tests.harness.affected.imports import read_imports
from tests.harness.affected.packages import packages_of
from tests.harness.affected.selection import affected_since_soak
from tests.harness.plugin_sampling import default_offset, offset
from tests.harness.repository import Repository
from tests.harness.soak.report import Report, read_report
from tests.harness.soak.runner import CollectionFailed, Runner, collect
from tests.harness.soak.state import Busy, Invocation, Plan, State, write_durably
from tests.harness.soak.units import units
from tests.load.machine import hardware

ROOT = Path(__file__).resolve().parents[3]
# Written by a soak: no test reads them.
_RESULTS = (soak_record.RECORD.as_posix(), costs.RECORD.as_posix())
_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Tree:
    """The name of the code that a soak runs on: a commit, with a digest of uncommitted changes if there are any."""

    commit: str
    changes: str

    @property
    def key(self) -> str:
        """Return its name."""
        return f"{self.commit}-{self.changes}" if self.changes else self.commit


def tree_of(repository: Repository) -> Tree:
    """Return what lies in a checkout now."""
    patch = repository.patch(without=_RESULTS)
    digest = hashlib.sha256(patch.encode(errors="surrogateescape")).hexdigest()[:12] if patch else ""
    return Tree(repository.commit(), digest)


def passed_earlier(root: Path) -> dict[str, str]:
    """Return the files whose recorded soak still counts, since no change can break them, with its commit."""
    record = soak_record.read(Repository(root))
    if not record.files:
        return {}
    packages = packages_of(root)
    void = {each.file for each in affected_since_soak(record, packages, read_imports(packages))}
    return {file: commit for file, commit in record.files.items() if file not in void}


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Run or report; return 0 if all that was asked for has passed, else 1; 2 if it cannot run; 128 + n by a signal."""
    asked = _parser().parse_args(arguments)
    tree = tree_of(Repository(root))
    state = State(cache_dir() / "soak" / tree.key)
    if asked.report:
        report = read_report(state, tree.key, {} if asked.anew else passed_earlier(root))
        _say(report.text().rstrip())
        return 0 if report.is_complete else 1
    if tree.changes and not asked.dirty:
        return _refuse("the checkout differs from its commit: commit first, or --dirty (for a result of these changes)")
    try:
        with state.held():
            return _Soak(root, tree, state, asked).run()
    except (Busy, CollectionFailed) as error:
        return _refuse(str(error))
    except KeyboardInterrupt:  # before any test ran
        return 128 + signal.SIGINT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.harness.soak", description=__doc__)
    parser.add_argument("paths", nargs="*", metavar="PATH", help="only the tests below these paths")
    parser.add_argument("--report", action="store_true", help="print what is known so far; run nothing")
    parser.add_argument("--again", action="store_true", help="run what fails a second time, at the end")
    parser.add_argument("--anew", action="store_true", help="also run what passed at an earlier commit")
    parser.add_argument("--dirty", action="store_true", help="run in a checkout with changes; writes no result")
    parser.add_argument("--lanes", type=int, default=int(os.environ.get("LANES") or 2), help="processes at a time")
    return parser


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _refuse(reason: str) -> int:
    sys.stderr.write(f"{reason}\n")
    return 2


class _Soak:
    """One call of the command."""

    def __init__(self, root: Path, tree: Tree, state: State, asked: argparse.Namespace) -> None:
        self._root = root
        self._tree = tree
        self._state = state
        self._again: bool = asked.again
        self._paths = tuple(asked.paths)
        self._earlier = {} if asked.anew else passed_earlier(root)
        self._number = len(state.invocations())
        self._invocation = Invocation(
            begun=time.time(),
            ended=None,
            end="killed",  # until it says otherwise
            paths=self._paths,
            lanes=asked.lanes,
            offset=offset() or default_offset(),
            yardstick_seconds=(),
            hardware=f"{hardware()}, {psutil.virtual_memory().total / _GIB:.0f} GiB",
        )
        self._runner = Runner(root, state, asked.lanes, _say, unchanged=lambda: tree_of(Repository(root)) == tree)

    def run(self) -> int:
        """Run what has not passed yet, report, and write the result once everything has passed."""
        self._measure_yardstick()
        plan = self._plan()
        self._run_rest(plan, "not passed yet")
        if self._again and not self._stopped:
            self._run_rest(plan, "failed, once more")
        self._measure_yardstick()
        self._save(
            ended=time.time(),
            end="interrupted" if self._runner.stopped_by else "stopped" if self._runner.tree_changed else "finished",
        )
        report = self._report()
        _say(report.text().rstrip())
        if not (self._tree.changes or self._runner.tree_changed):
            self._write_result(report)
        if self._runner.stopped_by:
            _say("to go on: make soak")
            return 128 + self._runner.stopped_by
        if self._runner.tree_changed:
            return _refuse("the checkout changed meanwhile: what ran after that is not of this commit")
        return 1 if report.not_passed(plan.by_name) or plan.skipped else 0

    @property
    def _stopped(self) -> bool:
        return bool(self._runner.stopped_by or self._runner.tree_changed)

    def _report(self) -> Report:
        return read_report(self._state, self._tree.key, self._earlier)

    def _plan(self) -> Plan:
        """Return the tests; a list with modules that skipped themselves is made anew, for they may not any more."""
        plan = self._state.plan(self._paths)
        if plan is None or plan.skipped:
            _say("collecting")
            plan = collect(self._root, self._state, self._paths)
            self._state.save_plan(plan)
        return plan

    def _run_rest(self, plan: Plan, why: str) -> None:
        report = self._report()
        rest = report.not_passed(plan.by_name)
        _say(f"{len(rest)} of {len(plan.tests)} tests: {why}")
        for outcome in report.with_outcome("failed", "error", "skipped"):
            if any(test.test == outcome.test for test in rest):
                _say(f"again   {outcome.test}: {outcome.outcome} before")
        recorded = {
            file: seconds.get("whole", seconds.get("sampled", 0.0))
            for file, seconds in costs.read_record(self._root).files.items()
        }
        self._runner.run(units(rest, recorded))

    def _measure_yardstick(self) -> None:
        self._save(yardstick_seconds=(*self._invocation.yardstick_seconds, round(yardstick.seconds(), 3)))

    def _save(self, **changes: object) -> None:
        self._invocation = replace(self._invocation, **changes)  # type: ignore[arg-type]  # fields by their names
        self._state.save_invocation(self._number, self._invocation)

    def _write_result(self, report: Report) -> None:
        passed = report.files_passed_here
        if not passed:
            return
        record = soak_record.read(Repository(self._root)).passed(passed, self._tree.commit, report.document())
        write_durably(self._root / soak_record.RECORD, record.text(self._root))
        seconds: dict[str, float] = {}
        scale = yardstick.REFERENCE_SECONDS / max(self._invocation.yardstick_seconds)
        for name, runs in report.outcomes.items():
            test = report.tests.get(name)
            if test is not None and test.file in passed and not test.alone:  # those run in no other command
                seconds[test.file] = seconds.get(test.file, 0.0) + runs[-1].processor_seconds * scale
        costs.read_record(self._root).updated(seconds, "whole").write(self._root)
        told = "everything has passed" if report.is_complete else f"{len(passed)} files have passed whole"
        _say(f"{told}; commit {' and '.join(_RESULTS)}")


if __name__ == "__main__":
    code = main()
    if code > 128:  # as the shell expects of what a signal ended
        with suppress(OSError):
            signal.signal(code - 128, signal.SIG_DFL)
            os.kill(os.getpid(), code - 128)
    sys.exit(code)
