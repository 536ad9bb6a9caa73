"""Where a run's time goes: seconds of set-up, call and tear-down of each test, and processor seconds of its process tree.

Each lane measures its own tests and sends the figures with their reports; the process that leads the run writes
``--timing-json``.  Processor time is read when half a second has passed since the last reading, so that eleven thousand
short tests do not pay for it: what a short test takes is counted with the next reading, in the same file or the next.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.harness.process_tree import processor_seconds

_READ_AGAIN_AFTER_SECONDS = 0.5
_PROPERTY = "trivium-timing"


@dataclass
class Phase:
    """One phase of a test: seconds by the clock, and processor seconds read at its end."""

    seconds: float
    processor_seconds: float


@dataclass
class TestTime:
    """Seconds of one test, by phase (setup, call, teardown)."""

    lane: str
    phases: dict[str, Phase] = field(default_factory=dict)


class Stopwatch:
    """Measures the phases of the tests of one lane."""

    def __init__(self) -> None:
        self._read_at = time.monotonic()
        self._processor_seconds = processor_seconds()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        """Measure a set-up."""
        return (yield from self._measured(item, "setup"))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Measure a call."""
        return (yield from self._measured(item, "call"))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        """Measure a tear-down."""
        return (yield from self._measured(item, "teardown"))

    def _measured(self, item: pytest.Item, phase: str) -> Generator[None, object, object]:
        begun = time.monotonic()
        try:
            return (yield)
        finally:
            seconds = time.monotonic() - begun
            item.user_properties.append((_PROPERTY, [phase, round(seconds, 4), self._processor_seconds_since()]))

    def _processor_seconds_since(self) -> float:
        now = time.monotonic()
        if now - self._read_at < _READ_AGAIN_AFTER_SECONDS:
            return 0.0
        before, self._processor_seconds = self._processor_seconds, processor_seconds()
        self._read_at = now
        return round(max(self._processor_seconds - before, 0.0), 3)


class TimingReport:
    """Collects what the lanes measured and writes it at the end of the run."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._begun = time.monotonic()
        self.tests: dict[str, TestTime] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the figures of one phase."""
        lane = getattr(getattr(report, "node", None), "gateway", None)
        test = self.tests.setdefault(report.nodeid, TestTime("" if lane is None else str(lane.id)))
        for name, measured in report.user_properties:
            if name == _PROPERTY and isinstance(measured, (list, tuple)):
                phase, seconds, processor = measured
                test.phases[phase] = Phase(seconds, processor)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """Write the file."""
        files: dict[str, dict[str, float]] = {}
        for test, taken in self.tests.items():
            sums = files.setdefault(
                test.partition("::")[0], {"tests": 0, "setup": 0, "call": 0, "teardown": 0, "processor": 0}
            )
            sums["tests"] += 1
            for name, phase in taken.phases.items():
                sums[name] = round(sums[name] + phase.seconds, 3)
                sums["processor"] = round(sums["processor"] + phase.processor_seconds, 3)
        document: dict[str, Any] = {
            "seconds": round(time.monotonic() - self._begun, 1),
            "files": dict(sorted(files.items(), key=lambda entry: -(entry[1]["setup"] + entry[1]["call"]))),
            "tests": {
                test: {
                    "lane": taken.lane,
                    **{name: [phase.seconds, phase.processor_seconds] for name, phase in taken.phases.items()},
                }
                for test, taken in self.tests.items()
            },
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(document, indent=1))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Name where the figures go."""
    parser.addoption("--timing-json", help="write seconds and processor seconds of each file and test to this file")


def pytest_configure(config: pytest.Config) -> None:
    """Measure in each process that runs tests; collect in the one that leads."""
    path = config.getoption("--timing-json")
    is_lane = hasattr(config, "workerinput")
    if path is None:
        return
    if is_lane or config.getoption("dist", "no") == "no":
        config.pluginmanager.register(Stopwatch(), "trivium-stopwatch")
    if not is_lane:
        config.pluginmanager.register(TimingReport(Path(path)), "trivium-timing-report")
