"""The budget of `make test`: what a run may cost, and what a run cost too much.

`tests/budget.toml` holds it.  A lane-second is a processor second of the machine on which the yardstick takes its
reference time (:mod:`tests.harness.yardstick`), so a verdict does not depend on the machine or on its neighbours.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class CostOfTest:
    """Lane-seconds of one test: its set-up, which starts what later tests share, and its call."""

    setup_lane_seconds: float
    call_lane_seconds: float


@dataclass(frozen=True, slots=True)
class RunCost:
    """Lane-seconds of a run: the whole, with collection; each file; each test.  ``elapsed_seconds`` is by the clock."""

    lane_seconds: float
    elapsed_seconds: float
    lanes: int
    files: Mapping[str, float]
    tests: Mapping[str, CostOfTest]
    # Test files whose families ran whole because a change affects them: the total alone holds them.
    whole_files: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Budget:
    """The limits of a run and of its parts, in lane-seconds.

    ``folders`` and ``files`` are keyed by path; a file that is listed does not count in its folder.  ``slow_tests`` lists the
    tests that may exceed the limits of a single test, by id without parameters, or by file: which test of a file pays for
    what they share depends on the sample.  A budget that is not enforced is printed, and fails no run.
    """

    is_enforced: bool
    cap_lane_seconds: float
    folders: Mapping[str, float]
    files: Mapping[str, float]
    slow_tests: frozenset[str]
    call_limit_lane_seconds: float
    setup_limit_lane_seconds: float
    excess_share: float
    excess_lane_seconds: float
    elapsed_excess_share: float

    @property
    def elapsed_limit_seconds(self) -> float:
        """Return the cap by the clock, for two lanes."""
        return self.cap_lane_seconds / 2

    def folder_of(self, file: str) -> str | None:
        """Return the listed folder that holds a file, the deepest one; None if no folder does."""
        holding = [folder for folder in self.folders if file.startswith(f"{folder}/")]
        return max(holding, key=len, default=None)

    def excesses(self, cost: RunCost) -> list[str]:
        """Return a sentence for each part of a run that cost too much; none if the run kept its budget."""
        return [*self._parts(cost), *self._total(cost), *self._single_tests(cost)]

    def warnings(self, cost: RunCost) -> list[str]:
        """Return a sentence if the run took longer by the clock than its cap, which a busy machine explains."""
        if cost.lanes < 2 or cost.elapsed_seconds <= self.elapsed_limit_seconds:
            return []
        return [
            f"the run took {cost.elapsed_seconds:.0f} s by the clock; its cap is {self.elapsed_limit_seconds:.0f} s"
        ]

    def _parts(self, cost: RunCost) -> list[str]:
        spent = {**dict.fromkeys(self.folders, 0.0), **dict.fromkeys(self.files, 0.0)}
        unlisted = []
        for file, seconds in cost.files.items():
            part = file if file in self.files else self.folder_of(file)
            if file in cost.whole_files:
                continue
            if part is None:
                unlisted.append(f"{file} is in no folder of tests/budget.toml: give its folder a budget")
            else:
                spent[part] += seconds
        allowed = {**self.folders, **self.files}
        return unlisted + [
            f"{part} took {seconds:.0f} lane-seconds; its budget is {allowed[part]:.0f}"
            for part, seconds in spent.items()
            if seconds > allowed[part] * (1 + self.excess_share) and seconds > allowed[part] + self.excess_lane_seconds
        ]

    def _total(self, cost: RunCost) -> list[str]:
        found = []
        if cost.lane_seconds > self.cap_lane_seconds:
            found.append(f"the run took {cost.lane_seconds:.0f} lane-seconds; the cap is {self.cap_lane_seconds:.0f}")
        limit = self.elapsed_limit_seconds * self.elapsed_excess_share
        if cost.lanes >= 2 and cost.elapsed_seconds > limit:
            found.append(f"the run took {cost.elapsed_seconds:.0f} s by the clock; the limit is {limit:.0f} s")
        return found

    def _single_tests(self, cost: RunCost) -> list[str]:
        found = []
        for test, taken in cost.tests.items():
            file = test.partition("::")[0]
            if file in cost.whole_files or self.slow_tests & {file, test.partition("[")[0]}:
                continue
            if taken.call_lane_seconds > self.call_limit_lane_seconds:
                found.append(
                    f"{test} took {taken.call_lane_seconds:.1f} lane-seconds in its call; the limit of a test that"
                    f" tests/budget.toml does not list is {self.call_limit_lane_seconds:.0f}"
                )
            if taken.setup_lane_seconds > self.setup_limit_lane_seconds:
                found.append(
                    f"{test} took {taken.setup_lane_seconds:.1f} lane-seconds in its set-up; the limit of a test that"
                    f" tests/budget.toml does not list is {self.setup_limit_lane_seconds:.0f}"
                )
        return found


def load(path: Path) -> Budget:
    """Read the budget.  Raises ValueError if the folders and files do not sum to the cap."""
    text = tomllib.loads(path.read_text())
    folders, files = text["folders"], text.get("files", {})
    cap, reserve = float(text["cap_lane_seconds"]), float(text["reserve_lane_seconds"])
    total = sum(folders.values()) + sum(files.values()) + reserve
    if total != cap:
        raise ValueError(f"{path.name}: folders, files and reserve sum to {total:g} lane-seconds, the cap is {cap:g}")
    limits = text["limits"]
    return Budget(
        is_enforced=text["is_enforced"],
        cap_lane_seconds=cap,
        folders=folders,
        files=files,
        slow_tests=frozenset(text.get("slow_tests", [])),
        call_limit_lane_seconds=limits["call_lane_seconds"],
        setup_limit_lane_seconds=limits["setup_lane_seconds"],
        excess_share=limits["excess_share"],
        excess_lane_seconds=limits["excess_lane_seconds"],
        elapsed_excess_share=limits["elapsed_excess_share"],
    )
