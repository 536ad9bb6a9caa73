"""The results for a catalogue at one commit in one mode: a JSON file in the cache, written after every run.

So a turn that is interrupted, however, costs the run that was under way and no more.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(slots=True)
class Trial:
    """How far the search for a fault has come.

    ``passed`` are test files that did not find it; ``broken`` are tests that fail without it as well; ``slow`` are files
    that did not end in their time, with the fault or without.  ``found_by`` is the test that found it, and
    ``found_again`` says whether it failed a second time.
    """

    passed: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    slow: list[str] = field(default_factory=list)
    seconds: float = 0.0
    ended: bool = False
    found_by: str = ""
    found_again: bool = False
    misplaced: str = ""

    @property
    def found(self) -> bool:
        """Whether a test failed that passes without the fault."""
        return bool(self.found_by)

    @property
    def tried(self) -> set[str]:
        """The files that need not run again."""
        return {*self.passed, *self.slow}


class State:
    """The trials by the faults' keys; several lanes may use it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._trials: dict[str, Trial] = {}
        self._files: dict[str, list[str]] = {}
        try:
            kept: dict[str, Any] = json.loads(path.read_text())
        except FileNotFoundError:
            return
        self._trials = {key: Trial(**trial) for key, trial in kept["trials"].items()}
        self._files = kept["files"]

    def trial(self, key: str) -> Trial:
        """Return the trial of a fault; it is new if the fault was never tried."""
        with self._lock:
            return self._trials.setdefault(key, Trial())

    def take_found(self, narrower: State) -> None:
        """Count what a mode has found that runs a part of the tests of this one."""
        with self._lock:
            for key, trial in narrower._trials.items():
                if trial.found and not self._trials.get(key, Trial()).ended:
                    self._trials[key] = trial

    def forget(self, keys: Iterable[str]) -> None:
        """Begin these faults' trials again."""
        with self._lock:
            for key in keys:
                self._trials.pop(key, None)
        self.save()

    def files(self) -> dict[str, list[str]]:
        """Return the test files by module, as an earlier turn found them."""
        return self._files

    def keep_files(self, files: dict[str, list[str]]) -> None:
        """Remember the test files by module."""
        self._files = files
        self.save()

    def save(self) -> None:
        """Write everything down."""
        with self._lock:
            kept = {"files": self._files, "trials": {key: asdict(trial) for key, trial in self._trials.items()}}
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self._path.with_suffix(".tmp")
            temporary.write_text(json.dumps(kept, indent=1))
            os.replace(temporary, self._path)
