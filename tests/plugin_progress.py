"""One line a test file while a run goes on, and no silent skips in CI.

A line tells what the file holds, how it went and how long it took, so a run that
hangs shows where, and one that crashes says which threads did what.  Under CI=true
a skipped test fails the run: whatever is missing there is missing from set-up, and a
promise that nobody checked is not kept.
"""

from __future__ import annotations

import faulthandler
import os
import time
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pytest

# Registered with this one, which the settings name.
pytest_plugins = ("tests.plugin_threads",)
IN_CI = os.environ.get("CI", "").lower() in {"1", "true", "yes"}


class Progress:
    """Counts the outcomes of the current file and prints its line when the next begins."""

    def __init__(self, config: pytest.Config) -> None:
        self._terminal = config.get_terminal_writer()
        self._root = config.rootpath
        self._file: Path | None = None
        self._begun = 0.0
        self._outcomes: Counter[str] = Counter()
        self.skipped = 0
        # Before pytest captures what tests write: a crash is told there.
        self._crashes = os.dup(2)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Open a file's count at its first test, and see to it that a crash of any test is told."""
        # Libraries put handlers of their own before this one, which write to where pytest captures: Ray does.
        faulthandler.disable()
        faulthandler.enable(file=self._crashes)
        if item.path != self._file:
            self.close()
            self._file, self._begun = item.path, time.monotonic()
        return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a test once: by its call, or by the phase that kept it from being called."""
        if report.when == "call" or report.outcome != "passed":
            outcome = _outcome(report)
            self._outcomes[outcome] += 1
            self.skipped += outcome == "skipped"

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Count a module that skips itself while it is collected."""
        self.skipped += report.outcome == "skipped"

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Print the last file's line; in CI, fail for what was skipped."""
        self.close()
        if IN_CI and self.skipped and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say why a run without failures failed."""
        if IN_CI and self.skipped:
            terminalreporter.write_line(
                f"{self.skipped} skipped: in CI a missing component is a failure, never a skip.", red=True
            )

    def close(self) -> None:
        """Print the line of the current file."""
        if self._file is None:
            return
        seconds = time.monotonic() - self._begun
        counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self._outcomes.items()))
        bad = bool(self._outcomes["failed"] or self._outcomes["error"])
        name = str(self._file.relative_to(self._root))
        self._terminal.line(f"{name:60} {counts:24} {seconds:6.1f} s", red=bad, green=not bad)
        self._terminal.flush()
        self._file = None
        self._outcomes.clear()


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str]:
    """Keep pytest's categories and words for its summary but print no letter a test."""
    if report.when != "call" and report.passed:
        return "", "", ""
    category = _outcome(report)
    return category, "", category.upper()


def _outcome(report: pytest.TestReport) -> str:
    if hasattr(report, "wasxfail"):
        return "xfailed" if report.skipped else "xpassed"
    if report.failed and report.when != "call":
        return "error"
    return report.outcome


@pytest.hookimpl(trylast=True)  # pytest's own reporter must exist before it is borrowed from
def pytest_configure(config: pytest.Config) -> None:
    """Take the place of pytest's own progress."""
    config.pluginmanager.register(Progress(config), "trivium-progress")
