"""Lists what a soak has to run, and within it writes the outcome of each test as soon as there is one.

A journal is a file of JSON lines, each in the file system before the next test begins.  A process that is killed loses
nothing, and a machine that loses power loses at most the tests of the last moment, which then run again.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.plugin_lanes import together

_SYNC_SECONDS = 0.5


class Collector:
    """Writes every collected test with what it shares."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._skipped: dict[str, str] = {}

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a module that skips itself: nothing else tells of its tests."""
        if report.outcome == "skipped":
            self._skipped[report.nodeid] = _first_line(report)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Write the list."""
        tests = [
            {"test": item.nodeid, "group": together(item.nodeid), "alone": item.get_closest_marker("soak") is not None}
            for item in session.items
        ]
        self._path.write_text(json.dumps({"tests": tests, "skipped": self._skipped}))


class Journal:
    """Runs some of the tests that are collected and writes what became of each."""

    def __init__(self, path: Path, wanted: frozenset[str]) -> None:
        self._wanted = wanted
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._synced = 0.0
        self._outcome = ""
        self._reason = ""
        self._phases: dict[str, list[float]] = {}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leave out what is not wanted now; a wanted test that is not there any more has an error."""
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in self._wanted])
        items[:] = [item for item in items if item.nodeid in self._wanted]
        for missing in sorted(self._wanted - {item.nodeid for item in items}):
            self._write({"test": missing, "outcome": "error", "reason": "it was not collected again"})

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Write that a test begins: a test without an outcome ended the process."""
        self._outcome, self._reason, self._phases = "passed", "", {}
        self._write({"begun": nodeid})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Gather the phases of a test."""
        for name, measured in report.user_properties:
            if name == "trivium-timing" and isinstance(measured, (list, tuple)):
                self._phases[measured[0]] = list(measured[1:])
        if report.failed and self._outcome != "failed":
            self._outcome = "failed" if report.when == "call" else "error"
            self._reason = _first_line(report)
        elif report.skipped and not hasattr(report, "wasxfail") and self._outcome == "passed":
            self._outcome, self._reason = "skipped", _first_line(report)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Write the outcome of a test."""
        seconds, processor = (round(sum(phase[part] for phase in self._phases.values()), 3) for part in (0, 1))
        outcome = {"test": nodeid, "outcome": self._outcome, "seconds": seconds, "processor": processor}
        self._write(outcome | ({"reason": self._reason} if self._reason else {}))

    def pytest_sessionfinish(self) -> None:
        """Leave nothing to the kernel's leisure."""
        os.fsync(self._descriptor)

    def _write(self, line: dict[str, Any]) -> None:
        os.write(self._descriptor, json.dumps(line | {"at": round(time.time(), 3)}).encode() + b"\n")
        now = time.monotonic()
        if now - self._synced > _SYNC_SECONDS:
            os.fsync(self._descriptor)
            self._synced = now


def _first_line(report: pytest.CollectReport | pytest.TestReport) -> str:
    """Return in one line why a report is what it is."""
    if isinstance(report.longrepr, tuple):  # a skip: file, line, reason
        return str(report.longrepr[2])
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message if crash is not None else report.longrepr or "").strip().partition("\n")[0]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Name the files that a soak reads and writes."""
    parser.addoption("--soak-list", metavar="FILE", help="write the tests that are collected to this file")
    parser.addoption("--soak-tests", metavar="FILE", help="run only the tests that this file lists")
    parser.addoption("--soak-journal", metavar="FILE", help="write the outcome of each test to this file")


def pytest_configure(config: pytest.Config) -> None:
    """Collect or run."""
    if listed := config.getoption("--soak-list"):
        config.pluginmanager.register(Collector(Path(listed)), "trivium-soak-collector")
    if journal := config.getoption("--soak-journal"):
        wanted = frozenset(json.loads(Path(config.getoption("--soak-tests")).read_text()))
        config.pluginmanager.register(Journal(Path(journal), wanted), "trivium-soak-journal")
