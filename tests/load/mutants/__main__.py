"""How many planted faults do the tests find?  ``python -m tests.load.mutants``.

Each fault of the catalogue is planted in a worktree of HEAD, or of ``--tests-at REV``, and the test files that import its
module or start its service run there, nearest first, until one fails that passes without the fault.

Modes: ``sample`` runs what `make test` runs; ``ci`` also runs the sampled families whole that the change affects, as CI does;
``whole`` runs every case, the long tests too.  Each runs all that the one before it runs, so what that has found at the same
commit and offset counts without another run.

A turn can be interrupted at any time and ends by itself after ``--seconds``; the next one goes on from there.  ``found_share``
is the share of the N faults in baseline.json that are found now; without that file, of all.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import Any

from services.ops.cache import CHECKOUT, cache_dir
from tests.load.machine import hardware
from tests.load.mutants import families
from tests.load.mutants.catalogue import FOLDER, Fault, load
from tests.load.mutants.exclusive import only_one
from tests.load.mutants.runs import Pytest, Stopped
from tests.load.mutants.search import Searcher
from tests.load.mutants.state import State, Trial
from tests.load.mutants.trees import CLEAN, Trees, commit_of

BASELINE = FOLDER / "baseline.json"
# As tests/harness/plugin_sampling.py derives an offset from a commit.
_OFFSETS = 100_000
_FILE_SECONDS = 900.0


class Mode(StrEnum):
    """Which cases run."""

    SAMPLE = "sample"
    CI = "ci"
    WHOLE = "whole"


class Turn:
    """One call of the benchmark."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.mode = Mode(options.mode)
        self.commit = commit_of(options.tests_at)
        self.offset = int(self.commit[:12], 16) % _OFFSETS if options.offset is None else options.offset
        self.faults = [fault for fault in load() if options.only in fault.name]
        self.folder = cache_dir() / "mutants"
        self.state = self._state(self.mode)
        if not options.again:
            for narrower in list(Mode)[: list(Mode).index(self.mode)]:
                self.state.take_found(self._state(narrower))
        self._trees = Trees.of(self.commit)
        self._file_seconds = options.file_seconds
        self._lanes = options.lanes
        self._deadline = time.monotonic() + (options.seconds or float("inf"))
        self._stop = threading.Event()

    def run(self) -> None:
        """Go on with every fault that has not ended, in as many lanes as were asked for."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self._stop.set())
        left = [fault for fault in self.faults if not self.state.trial(fault.key).ended]
        if not left:
            return
        with ExitStack() as held:
            held.enter_context(only_one(self._trees.folder))
            clean = self._trees.open(CLEAN)
            files = self._files(clean)
            turn = threading.Lock()
            searchers = [
                self._searcher(self._trees.open(f"faulty-{lane}"), self._pytest(clean, f"{CLEAN}-{lane}"), turn)
                for lane in range(min(self._lanes, len(left)))
            ]
            lanes = held.enter_context(ThreadPoolExecutor(len(searchers)))
            waiting = iter(left)
            taking = threading.Lock()

            def take() -> Fault | None:
                with taking:
                    return None if self._over else next(waiting, None)

            for done in [lanes.submit(self._lane, searcher, take, files) for searcher in searchers]:
                done.result()

    def _state(self, mode: Mode) -> State:
        name = f"{self.commit[:12]}-{mode}" + ("" if mode is Mode.WHOLE else f"-{self.offset}")
        return State(self.folder / f"{name}.json")

    @property
    def _over(self) -> bool:
        return self._stop.is_set() or time.monotonic() >= self._deadline

    def _lane(self, searcher: Searcher, take: Callable[[], Fault | None], files: dict[str, list[str]]) -> None:
        while (fault := take()) is not None:
            try:
                trial = searcher.search(fault, files.get(fault.module, []))
            except Stopped:
                return
            if trial.ended:
                print(f"{fault.name}: {_told(trial)}", file=sys.stderr, flush=True)

    def _searcher(self, tree: Path, clean: Pytest, turn: threading.Lock) -> Searcher:
        return Searcher(
            tree,
            self._trees.reset,
            self.state,
            self._pytest(tree, tree.name),
            clean,
            turn,
            self._affected,
            self._file_seconds,
            self._deadline,
        )

    def _pytest(self, tree: Path, name: str) -> Pytest:
        options: list[str] = []
        if self.mode is Mode.WHOLE:
            options += ["-m", "", *(["--whole"] if families.samples(tree) else [])]
        log = self.folder / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        return Pytest(tree, tuple(options), (("OFFSET", str(self.offset)),), log, self._stop)

    def _affected(self, tree: Path) -> Sequence[str]:
        """Return the test files that CI runs whole for what is planted in a worktree."""
        return families.whole_files(tree, self.commit) if self.mode is Mode.CI and families.samples(tree) else ()

    def _files(self, clean: Path) -> dict[str, list[str]]:
        """Return the test files of every fault's module, as the tree's own imports have them."""
        modules = sorted({fault.module for fault in self.faults})
        known = self.state.files()
        if not set(modules) <= known.keys():
            finished = subprocess.run(
                [sys.executable, "-m", "tests.load.mutants.reach", str(clean)],
                cwd=CHECKOUT,
                input="\n".join(modules),
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            # A module that the tree lacks has no files, and its faults say that it is not there.
            known = known | {module: [] for module in modules} | json.loads(finished.stdout)
            self.state.keep_files(known)
        return known


def _told(trial: Trial) -> str:
    if trial.misplaced:
        return f"not planted: {trial.misplaced}"
    if trial.found:
        return f"found by {trial.found_by}" + ("" if trial.found_again else " (not a second time)")
    if trial.ended:
        return f"not found in {len(trial.passed)} files" + (f", {len(trial.slow)} too slow" if trial.slow else "")
    return f"under way, {len(trial.passed)} files passed" if trial.passed else "to do"


def report(turn: Turn) -> dict[str, Any]:
    """Print the table; what the line of JSON says."""
    trials = {fault.name: turn.state.trial(fault.key) for fault in turn.faults}
    for fault in turn.faults:
        trial = trials[fault.name]
        origin = fault.commit or "planted"
        print(
            f"{fault.service:10} {origin:9} {trial.seconds:6.0f} s  {fault.name} ({fault.breaks})\n{'':30}{_told(trial)}"
        )
    baseline = json.loads(BASELINE.read_text())["found"] if BASELINE.exists() else list(trials)
    counted = [name for name in baseline if name in trials]
    found = [name for name, trial in trials.items() if trial.found]
    return {
        "found_share": round(len(set(found) & set(counted)) / len(counted), 3) if counted else None,
        "of": len(counted),
        "planted": len(trials),
        "found": len(found),
        "not_found": [name for name, trial in trials.items() if trial.ended and not trial.found],
        "left": sum(not trial.ended for trial in trials.values()),
        "mode": turn.mode.value,
        "offset": None if turn.mode is Mode.WHOLE else turn.offset,
        "seconds": round(sum(trial.seconds for trial in trials.values())),
        "commit": turn.commit[:8],
        "hardware": hardware(),
    }


def _keep_baseline(facts: dict[str, Any], turn: Turn) -> None:
    found = [fault.name for fault in turn.faults if turn.state.trial(fault.key).found]
    kept = {"commit": turn.commit, "mode": facts["mode"], "found": found}
    BASELINE.write_text(json.dumps(kept, indent=1) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=list(Mode), default=Mode.SAMPLE.value)
    parser.add_argument("--tests-at", metavar="REV", default="HEAD", help="the tree, tests and all, as it was then")
    parser.add_argument("--offset", type=int, help="which cases the sample has; by default from the commit")
    parser.add_argument("--only", metavar="TEXT", default="", help="the faults whose names contain this")
    parser.add_argument("--seconds", type=float, help="begin no run after so long")
    parser.add_argument("--file-seconds", type=float, default=_FILE_SECONDS, help="the most for one test file")
    parser.add_argument("--lanes", type=int, default=1, help="faults at a time, each in a separate worktree")
    parser.add_argument("--again", action="store_true", help="forget earlier results of these faults at this commit")
    parser.add_argument("--report", action="store_true", help="run nothing; say what is known")
    parser.add_argument("--keep-baseline", action="store_true", help=f"write what was found to {BASELINE.name}")
    parser.add_argument("--remove-trees", action="store_true", help="remove this commit's worktrees at the end")
    return parser.parse_args()


def main() -> None:
    """Take a turn, print what is known, and a line of JSON."""
    options = _options()
    turn = Turn(options)
    if not turn.faults:
        sys.exit(f"no fault's name contains {options.only!r}")
    if options.again:
        turn.state.forget(fault.key for fault in turn.faults)
    if not options.report:
        turn.run()
    facts = report(turn)
    if options.keep_baseline and not facts["left"] and not options.only:
        _keep_baseline(facts, turn)
    if options.remove_trees:
        Trees.of(turn.commit).remove()
    print(json.dumps(facts))


if __name__ == "__main__":
    os.environ.pop("GIT_DIR", None)
    main()
