"""One run of pytest over some test files of a worktree, ended when it takes too long or when the turn ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from tests.load.mutants.trees import environment

# Pytest, which ends with this process: a killed turn leaves nothing that runs.
_PROGRAM = """
import sys
from services.chassis.processes import die_with_parent
die_with_parent(int(sys.argv.pop(1)))
import pytest
sys.exit(pytest.main())
"""
_PASSED = (0, 5)  # 5: nothing was chosen
_USAGE_ERROR = 4
_LOOK_SECONDS = 0.5
_END_SECONDS = 30
_TOLD_CHARACTERS = 4000


class Ended(Enum):
    """How a run ended."""

    PASSED = auto()
    FAILED = auto()
    TIMED_OUT = auto()


class Stopped(Exception):
    """The turn was ended during a run."""


class Unusable(Exception):
    """Pytest did not take its command line; the text is its own."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended, and the tests that failed: a file's path where no single test is known."""

    ended: Ended
    failed: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Pytest:
    """How to run pytest in a worktree: its options, environment and log; setting ``stop`` kills the run."""

    tree: Path
    options: tuple[str, ...]
    variables: tuple[tuple[str, str], ...]
    log: Path
    stop: threading.Event

    def run(self, tests: Sequence[str], seconds: float, *, without: Sequence[str] = (), whole: bool = False) -> Outcome:
        """Run the tests until the first that fails.  Raises Stopped, Unusable."""
        with tempfile.TemporaryDirectory(prefix="trivium-mutants-") as cache:
            command = [
                sys.executable, "-c", _PROGRAM, str(os.getpid()), "-x", "-o", f"cache_dir={cache}", *self.options,
                *(["--whole"] if whole and "--whole" not in self.options else []),
                *(f"--deselect={test}" for test in without), *tests,
            ]  # fmt: skip
            began = time.monotonic()
            status = self._status(command, seconds)
            took = time.monotonic() - began
            failed = _failed(Path(cache))
        if status in _PASSED:
            return Outcome(Ended.PASSED, seconds=took)
        if status == _USAGE_ERROR:
            raise Unusable(self.log.read_text(errors="replace")[-_TOLD_CHARACTERS:])
        # A run that hangs, or whose process dies, names no test: then any of its files is to blame.
        return Outcome(Ended.TIMED_OUT if status is None else Ended.FAILED, failed or tuple(tests), took)

    def _status(self, command: Sequence[str], seconds: float) -> int | None:
        """Run a command in a new process group; return its exit status, or None after a timeout."""
        with self.log.open("w") as log:
            child = subprocess.Popen(
                command,
                cwd=self.tree,
                env=environment(self.tree, dict(self.variables)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            deadline = time.monotonic() + seconds
            try:
                while time.monotonic() < deadline and not self.stop.is_set():
                    try:
                        return child.wait(_LOOK_SECONDS)
                    except subprocess.TimeoutExpired:
                        continue
            finally:
                _end(child)
            if self.stop.is_set():
                raise Stopped
            return None


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a run and what it has started: first as Ctrl-C would, so that its fixtures end their servers."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if child.poll() is not None:
            break
        os.killpg(child.pid, number)
        try:
            child.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _failed(cache: Path) -> tuple[str, ...]:
    """Return what pytest has noted as failed."""
    try:
        noted = json.loads((cache / "v" / "cache" / "lastfailed").read_text())
    except FileNotFoundError:
        return ()
    return tuple(noted)
