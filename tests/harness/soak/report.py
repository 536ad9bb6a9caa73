"""The results of a soak so far, as text and as `tests/soak.json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.harness.soak.state import PASSED, Invocation, Outcome, Plan, PlannedTest, State

_EARLIER = "passed earlier"


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that is known of the soak of one commit."""

    commit: str
    plans: Sequence[Plan]
    outcomes: Mapping[str, Sequence[Outcome]]
    invocations: Sequence[Invocation]
    elapsed_seconds: float
    # Files that passed at an earlier commit, since which no change can break them, with that commit.
    earlier: Mapping[str, str]

    @property
    def tests(self) -> dict[str, PlannedTest]:
        """Return the tests that are known, by id."""
        return {name: test for plan in self.plans for name, test in plan.by_name.items()}

    @property
    def is_complete(self) -> bool:
        """Return whether every test there is has passed, here or at an earlier commit whose result still counts."""
        return any(plan.is_whole and not plan.skipped for plan in self.plans) and not self.not_passed(self.tests)

    def not_passed(self, tests: Mapping[str, PlannedTest]) -> list[PlannedTest]:
        """Return those of some tests whose last run did not pass, or that have not run and whose earlier result is void."""
        return [test for name, test in tests.items() if self._last(name) not in (PASSED, _EARLIER)]

    @property
    def files_passed_here(self) -> set[str]:
        """Return the files all of whose tests have passed at this commit."""
        tests = {name: test for plan in self.plans if not plan.names_tests for name, test in plan.by_name.items()}
        skipped = {file for plan in self.plans for file in plan.skipped}
        bad = {test.file for name, test in tests.items() if self._last(name) != PASSED}
        return {test.file for test in tests.values()} - bad - skipped

    def with_outcome(self, *names: str) -> list[Outcome]:
        """Return the last outcomes that have some names."""
        return [runs[-1] for name, runs in self.outcomes.items() if name in self.tests and runs[-1].outcome in names]

    @property
    def passed_later(self) -> list[str]:
        """Return the tests that failed on this commit before they passed."""
        bad = {"failed", "error"}
        return [
            name
            for name, runs in self.outcomes.items()
            if name in self.tests and runs[-1].outcome == PASSED and any(run.outcome in bad for run in runs)
        ]

    @property
    def processor_seconds(self) -> float:
        """Return the processor seconds of all tests that ran, with their servers."""
        return sum(run.processor_seconds for runs in self.outcomes.values() for run in runs)

    def _last(self, name: str) -> str:
        if runs := self.outcomes.get(name):
            return runs[-1].outcome
        return _EARLIER if self.tests[name].file in self.earlier else ""

    def text(self) -> str:
        """Return the report for people."""
        return "".join(f"{line}\n" for line in [*self._head(), *self._parts()])

    def _head(self) -> list[str]:
        whole = any(plan.is_whole for plan in self.plans)
        parts = "everything" if whole else "parts: " + ", ".join(" ".join(plan.paths) for plan in self.plans)
        last = Counter(self._last(name) or "not yet run" for name in self.tests)
        ends = Counter(invocation.end for invocation in self.invocations)
        yardsticks = [seconds for invocation in self.invocations for seconds in invocation.yardstick_seconds]
        lines = [
            f"soak of {self.commit}: {parts}; every case of every family, both stores",
            f"tests: {len(self.tests)}; " + ", ".join(f"{count} {name}" for name, count in sorted(last.items())),
            f"calls: {len(self.invocations)} ("
            + ", ".join(f"{count} {end}" for end, count in sorted(ends.items()))
            + ")",
            f"seconds: {self.elapsed_seconds:.0f} by the clock, {self.processor_seconds:.0f} of processors",
            "offsets: " + ", ".join(sorted({str(invocation.offset) for invocation in self.invocations})),
            "hardware: " + "; ".join(sorted({invocation.hardware for invocation in self.invocations})),
        ]
        if yardsticks:
            lines.append(f"yardstick: {min(yardsticks):.3f} to {max(yardsticks):.3f} s")
        return lines

    def _parts(self) -> list[str]:
        lines = [f"{run.outcome}: {run.test}: {run.reason}" for run in self.with_outcome("failed", "error", "skipped")]
        lines += [f"skipped: {file}: {why}" for plan in self.plans for file, why in sorted(plan.skipped.items())]
        lines += [f"failed before it passed: {name}" for name in self.passed_later]
        missing = Counter(test.file for name, test in self.tests.items() if not self._last(name))
        lines += [f"not yet run: {file}: {count}" for file, count in sorted(missing.items())]
        if not any(plan.is_whole for plan in self.plans):
            lines.append("not yet known: the tests outside of these parts; make soak without ARGS lists them")
        files = {test.file for name, test in self.tests.items() if self._last(name) == _EARLIER}
        commits = Counter(self.earlier[file] for file in files)
        lines += [
            f"passed at {commit[:12]}: {count} files, which no change since can break"
            for commit, count in sorted(commits.items())
        ]
        return lines

    def document(self) -> dict[str, Any]:
        """Return what is committed of the soak of this commit."""
        last = [runs[-1] for name, runs in self.outcomes.items() if name in self.tests]
        return {
            "finished": datetime.fromtimestamp(max(run.at for run in last), UTC).isoformat(timespec="seconds"),
            "tests_passed": sum(run.outcome == PASSED for run in last),
            "failed_before_they_passed": sorted(self.passed_later),
            "calls": len(self.invocations),
            "lanes": sorted({invocation.lanes for invocation in self.invocations}),
            "offsets": sorted({invocation.offset for invocation in self.invocations}),
            "elapsed_seconds": round(self.elapsed_seconds),
            "processor_seconds": round(self.processor_seconds),
            "yardstick_seconds": sorted(seconds for each in self.invocations for seconds in each.yardstick_seconds),
            "hardware": sorted({invocation.hardware for invocation in self.invocations}),
        }


def read_report(state: State, commit: str, earlier: Mapping[str, str]) -> Report:
    """Read what is known of a soak."""
    return Report(commit, state.plans(), state.outcomes(), state.invocations(), _elapsed(state), earlier)


def _elapsed(state: State) -> float:
    """Return the seconds of all calls; one that was killed lasted until its last test ended."""
    invocations = state.invocations()
    ends = [run.at for runs in state.outcomes().values() for run in runs]
    total = 0.0
    for number, invocation in enumerate(invocations):
        next_begun = invocations[number + 1].begun if number + 1 < len(invocations) else float("inf")
        within = [at for at in ends if invocation.begun <= at < next_begun]
        total += (invocation.ended or max(within, default=invocation.begun)) - invocation.begun
    return total
