"""Runs the units of a soak in parallel pytest processes, and stops in order on a signal.

The processes end with this one, however it ends: the kernel kills them, and they take what they started with them.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from services.chassis.processes import die_with_parent
from tests.harness.soak.state import PASSED, Plan, PlannedTest, State, append, read_journal, write_durably
from tests.harness.soak.units import Unit

PLUGIN = ("-p", "tests.harness.soak.plugin_outcomes")
# Every test, those that only a soak runs too; every case.
_EVERYTHING = ("-m", "", "--whole", "-p", "no:cacheprovider", *PLUGIN)
# So long a process has to stop what its tests started.
_STOP_SECONDS = 60.0


class CollectionFailed(Exception):
    """Some test could not even be collected; what pytest printed."""


def collect(root: Path, state: State, paths: Sequence[str]) -> Plan:
    """List the tests below some paths, or all.  Raises CollectionFailed."""
    listed = state.folder / "collected.json"
    listed.unlink(missing_ok=True)
    command = [*_pytest(paths), "--collect-only", "--soak-list", str(listed)]
    finished = subprocess.run(
        command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=_tied()
    )
    if finished.returncode or not listed.is_file():
        raise CollectionFailed(finished.stdout[-8000:])
    found = json.loads(listed.read_text())
    tests = tuple(PlannedTest(each["test"], each["group"], each["alone"]) for each in found["tests"])
    return Plan(tuple(paths), tests, found["skipped"])


def _pytest(paths: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "pytest", *paths, *_EVERYTHING]


def _tied() -> Callable[[], None]:
    """Return what a child calls first, so that the kernel kills it when this process dies.

    The kernel's signal follows the thread that starts a child; here that is the only one.
    """
    parent = os.getpid()

    def in_child() -> None:
        die_with_parent(parent)

    return in_child


@dataclass(slots=True)
class _Running:
    """A unit in its process."""

    unit: Unit
    process: subprocess.Popen[bytes]
    journal: Path
    log: Path
    begun: float


@dataclass(slots=True)
class Runner:
    """Runs units; ``say`` takes lines for people, ``unchanged`` tells whether the tree still is what the soak is of."""

    root: Path
    state: State
    lanes: int
    say: Callable[[str], None]
    unchanged: Callable[[], bool]
    stopped_by: int = 0
    tree_changed: bool = False
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _kill_at: float | None = None

    def run(self, units: Sequence[Unit]) -> None:
        """Run units until all have run, a signal stops it or the tree changes."""
        pending, running = list(units), list[_Running]()
        with self._signals():
            while running or (pending and not self._stopping):
                while pending and not self._stopping and self._fits(pending[0], running):
                    running.append(self._start(pending.pop(0)))
                for ended in self._wait(running):
                    running.remove(ended)
                    if rest := self._finish(ended):
                        pending.insert(0, rest)

    @property
    def _stopping(self) -> bool:
        return bool(self.stopped_by) or self.tree_changed

    def _fits(self, unit: Unit, running: Sequence[_Running]) -> bool:
        if unit.alone or any(each.unit.alone for each in running):
            return not running
        return len(running) < self.lanes

    def _start(self, unit: Unit) -> _Running:
        journal = self.state.new_journal(unit.name)
        tests = journal.with_suffix(".tests")
        write_durably(tests, json.dumps(unit.tests))
        command = [*_pytest(unit.files), "--soak-tests", str(tests), "--soak-journal", str(journal)]
        command += ["--continue-on-collection-errors", "--timing-json", str(journal.with_suffix(".timing"))]
        log = journal.with_suffix(".log")
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # what interrupts this process is for it to pass on
                preexec_fn=_tied(),  # noqa: PLW1509  # the parent has no other thread
            )
        self._selector.register(os.pidfd_open(process.pid), selectors.EVENT_READ, process)
        self.say(f"begun   {unit.name}: {len(unit.tests)} tests")
        return _Running(unit, process, journal, log, time.monotonic())

    def _wait(self, running: Sequence[_Running]) -> list[_Running]:
        """Wait for an end or a signal; return the processes that ended."""
        timeout = None if self._kill_at is None else max(self._kill_at - time.monotonic(), 0.0)
        for key, _ in self._selector.select(timeout):
            if isinstance(key.data, subprocess.Popen):
                self._selector.unregister(key.fileobj)
                os.close(key.fd)
            else:
                os.read(key.fd, 4096)
        if self._stopping and self._kill_at is None:
            self._stop(running)
        elif self._kill_at is not None and time.monotonic() >= self._kill_at:
            for each in running:
                _signal_group(each.process, signal.SIGKILL)
            self._kill_at = time.monotonic() + _STOP_SECONDS
        return [each for each in running if each.process.poll() is not None]

    def _stop(self, running: Sequence[_Running]) -> None:
        """Tell pytest to stop, as Ctrl-C would: fixtures stop what they started."""
        self._kill_at = time.monotonic() + _STOP_SECONDS
        for each in running:
            if each.process.poll() is None:
                append(each.journal, {"stopping": time.time()})
                each.process.send_signal(signal.SIGINT)

    def _finish(self, ended: _Running) -> Unit | None:
        """Tell what became of a unit; return what is left of it if a test took its process down."""
        contents = read_journal(ended.journal)
        done = {outcome.test for outcome in contents.outcomes}
        unit = ended.unit
        if not self._stopping:
            crashed = [contents.unfinished] if contents.unfinished else []
            if not crashed and not done:  # nothing says which test it was, and again would be the same
                crashed = list(unit.tests)
            for test in crashed:
                reason = f"its process ended with {ended.process.returncode}: {ended.log}"
                append(ended.journal, {"test": test, "outcome": "error", "reason": reason, "at": time.time()})
            done.update(crashed)
            self.tree_changed = not self.unchanged()
        self._tell(ended, len(unit.tests))
        rest = tuple(test for test in unit.tests if test not in done)
        return Unit(unit.name, rest, unit.alone, unit.seconds) if rest and not self._stopping else None

    def _tell(self, ended: _Running, tests: int) -> None:
        outcomes = read_journal(ended.journal).outcomes
        bad = [outcome for outcome in outcomes if outcome.outcome != PASSED]
        seconds = time.monotonic() - ended.begun
        self.say(f"ended   {ended.unit.name}: {len(outcomes) - len(bad)} of {tests} passed, {seconds:.0f} s")
        for outcome in bad:
            self.say(f"{outcome.outcome:7} {outcome.test}: {outcome.reason}")
        if any(outcome.outcome != "skipped" for outcome in bad):
            self.say(f"        what it printed: {ended.log}")

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Take SIGINT and SIGTERM for a stop; a second one does not wait."""
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        self._selector.register(ours, selectors.EVENT_READ, None)

        def stop(number: int, _: FrameType | None) -> None:
            if self.stopped_by:
                self._kill_at = time.monotonic()
            self.stopped_by = number

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        wakeup = signal.set_wakeup_fd(theirs.fileno())
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._selector.unregister(ours)
            ours.close()
            theirs.close()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to a process and those it started in its session."""
    if process.poll() is None:
        os.killpg(process.pid, number)
