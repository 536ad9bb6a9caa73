"""Fails a whole run of `make test` that costs more than `tests/budget.toml` allows (``--budget tests/budget.toml``).

The cost is the processor time of the run's process tree over that of a yardstick, timed before the first test and after
the last.  The clock warns, and fails only far above the cap: it also measures the machine's neighbours.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.harness import budget, yardstick
from tests.harness.plugin_sampling import sampled_files, whole_files
from tests.harness.plugin_timing import TimingReport
from tests.harness.process_tree import processor_seconds


class BudgetCheck:
    """Compares the cost of a run with the budget when the last test has ended.

    The files that `tests/sampled_files.toml` lists are those whose tests take long: the limits of a single test are not theirs.
    """

    def __init__(self, path: Path, timing: TimingReport, lanes: int, root: Path) -> None:
        self._timing = timing
        self._lanes = lanes
        allowed = budget.load(path)
        self._budget = replace(allowed, slow_tests=allowed.slow_tests | set(sampled_files(root)))
        self._yardstick_before = yardstick.seconds()
        self._begun = time.monotonic()
        self._processor_before = processor_seconds()
        self._lines: list[tuple[str, bool]] = []

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail a run that passed and cost too much, if the budget is enforced."""
        yardstick_seconds = (self._yardstick_before + yardstick.seconds()) / 2
        scale = yardstick.REFERENCE_SECONDS / yardstick_seconds
        cost = self._cost(scale)
        excesses = self._budget.excesses(cost)
        self._lines = [
            (
                f"{cost.lane_seconds:.0f} lane-seconds of {self._budget.cap_lane_seconds:.0f}, {cost.elapsed_seconds:.0f} s by"
                f" the clock in {cost.lanes} lanes (yardstick {yardstick_seconds:.3f} s,"
                f" reference {yardstick.REFERENCE_SECONDS} s)",
                False,
            ),
            *((f"budget: {line}", False) for line in self._budget.warnings(cost)),
            *((f"budget exceeded: {line}", True) for line in excesses),
        ]
        if excesses and self._budget.is_enforced and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the cost and what exceeds its budget."""
        for line, is_excess in self._lines:
            terminalreporter.write_line(line, red=is_excess)

    def _cost(self, scale: float) -> budget.RunCost:
        tests = {
            test: budget.CostOfTest(
                *(
                    taken.phases[phase].processor_seconds * scale if phase in taken.phases else 0.0
                    for phase in ("setup", "call")
                )
            )
            for test, taken in self._timing.tests.items()
        }
        files: dict[str, float] = {}
        for test, taken in self._timing.tests.items():
            file = test.partition("::")[0]
            seconds = sum(phase.processor_seconds for phase in taken.phases.values()) * scale
            files[file] = files.get(file, 0.0) + seconds
        return budget.RunCost(
            lane_seconds=(processor_seconds() - self._processor_before) * scale,
            elapsed_seconds=time.monotonic() - self._begun,
            lanes=self._lanes,
            files=files,
            tests=tests,
            whole_files=whole_files(),
        )


def pytest_addoption(parser: pytest.Parser) -> None:
    """Hold a run to the budget only where it is asked for: a part of the suite says nothing about the whole."""
    parser.addoption(
        "--budget", metavar="FILE", help="print what a run costs; fail it if it exceeds what this file allows"
    )


@pytest.hookimpl(trylast=True)  # the timing report must exist before it is read
def pytest_configure(config: pytest.Config) -> None:
    """Check in the process that leads the run."""
    path = config.getoption("--budget")
    if path is None or hasattr(config, "workerinput"):
        return
    timing = config.pluginmanager.get_plugin("trivium-timing-report")
    if timing is None:
        raise pytest.UsageError("--budget needs --timing-json: without it nothing is measured")
    lanes = len(config.getoption("tx", None) or []) or 1
    config.pluginmanager.register(BudgetCheck(Path(path), timing, lanes, config.rootpath), "trivium-budget")
