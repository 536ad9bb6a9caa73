"""One line a test file while a run goes on, and no silent skips in CI.

A line tells what the file holds, how it went and how long it took.  A run that is ended
because it hangs says which files it was at, and it, or one that crashes, which threads
did what.  Where tests run in several lanes, each lane has a file of its own at a time.  Under CI=true
a skipped test fails the run: whatever is missing there is missing from set-up, and a
promise that nobody checked is not kept.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import time
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import psutil
import pytest

# Registered with this one, which the settings name.
pytest_plugins = ("tests.plugin_lanes", "tests.plugin_threads")
# So long a lane has to say where it is.
_ENDING_SECONDS = 3
# Before its timer ends its process.
_SOONER_SECONDS = 0.5
IN_CI = os.environ.get("CI", "").lower() in {"1", "true", "yes"}


@dataclass
class _File:
    """The file that a lane is at."""

    name: str
    begun: float
    outcomes: Counter[str] = field(default_factory=Counter)


class Crashes:
    """Sees to it that a crash of any test is told, in the process that runs it."""

    def __init__(self) -> None:
        # Before pytest captures what tests write: a crash is told there.
        self._told = os.dup(2)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Generator[None, object, object]:
        """Libraries put handlers of their own before these, which write to where pytest captures: Ray does.

        Whoever ends a run that hangs hears where each thread is.
        """
        faulthandler.disable()
        faulthandler.enable(file=self._told)
        faulthandler.unregister(signal.SIGTERM)
        faulthandler.register(signal.SIGTERM, file=self._told, chain=True)
        return (yield)

    @pytest.hookimpl(optionalhook=True)
    def pytest_timeout_set_timer(self, settings: Any) -> None:
        """A test whose time is over says where it hangs, and ends its process.

        Its timer would end it in a moment, but in a lane writes the reason to nobody, and waits for an interpreter that
        foreign code may hold for ever.
        """
        seconds = max(settings.timeout - _SOONER_SECONDS, _SOONER_SECONDS)
        faulthandler.dump_traceback_later(seconds, file=self._told, exit=True)

    @pytest.hookimpl(optionalhook=True)
    def pytest_timeout_cancel_timer(self) -> None:
        """It ended in time."""
        faulthandler.cancel_dump_traceback_later()

    def pytest_enter_pdb(self) -> None:
        """Whoever looks into it has all the time."""
        faulthandler.cancel_dump_traceback_later()


class Progress:
    """Counts the outcomes of the file that each lane is at and prints its line when the next begins."""

    def __init__(self, config: pytest.Config) -> None:
        self._terminal = config.get_terminal_writer()
        # By lane; a run without lanes is one.
        self._files: dict[str, _File] = {}
        self._heard: dict[str, float] = {}
        self.skipped = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a test once: by its call, or by the phase that kept it from being called."""
        lane = getattr(getattr(report, "node", None), "gateway", None)
        name = "" if lane is None else str(lane.id)
        now = time.monotonic()
        self._at(name, report.nodeid.partition("::")[0], self._heard.get(name, now - report.duration))
        self._heard[name] = now
        if report.when == "call" or report.outcome != "passed":
            outcome = _outcome(report)
            self._files[name].outcomes[outcome] += 1
            self.skipped += outcome == "skipped"

    def _at(self, lane: str, file: str, begun: float) -> None:
        """Open a file's count at its first report: it began when the lane's report before that came."""
        if lane in self._files and self._files[lane].name == file:
            return
        self._close(lane)
        self._files[lane] = _File(file, begun)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Count a module that skips itself while it is collected."""
        self.skipped += report.outcome == "skipped"

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Print the last files' lines; in CI, fail for what was skipped."""
        for lane in list(self._files):
            self._close(lane)
        if IN_CI and self.skipped and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say why a run without failures failed."""
        if IN_CI and self.skipped:
            terminalreporter.write_line(
                f"{self.skipped} skipped: in CI a missing component is a failure, never a skip.", red=True
            )

    def tell_where_when_ended(self) -> None:
        """For a run in lanes that is ended from without: which files it was at, then, by each lane, which threads did what."""

        def end(number: int, _: object) -> None:
            for lane, file in self._files.items():
                seconds = time.monotonic() - file.begun
                self._terminal.line(f"ended in {file.name} or behind it, lane {lane}, after {seconds:.1f} s", red=True)
            self._terminal.flush()
            lanes = psutil.Process().children()
            for lane_process in lanes:
                lane_process.terminate()
            psutil.wait_procs(lanes, timeout=_ENDING_SECONDS)
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

        signal.signal(signal.SIGTERM, end)

    def _close(self, lane: str) -> None:
        """Print the line of the file that a lane was at."""
        file = self._files.pop(lane, None)
        if file is None:
            return
        seconds = time.monotonic() - file.begun
        counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(file.outcomes.items()))
        bad = bool(file.outcomes["failed"] or file.outcomes["error"])
        self._terminal.line(f"{file.name:60} {counts:24} {seconds:6.1f} s", red=bad, green=not bad)
        self._terminal.flush()


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
    """Take the place of pytest's own progress; in the process of a lane nobody reads any."""
    config.pluginmanager.register(Crashes(), "trivium-crashes")
    if not hasattr(config, "workerinput"):
        progress = Progress(config)
        config.pluginmanager.register(progress, "trivium-progress")
        if config.getoption("dist", "no") != "no":
            progress.tell_where_when_ended()
