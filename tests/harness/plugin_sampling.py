"""Long families are sampled: `make test` runs a share of their cases, `make soak` runs all of them.

A family is a set of cases that attack one promise in one way: the seeds of a random test, the steps of a durable write,
the second database of a contract suite.  ``@pytest.mark.sampled(every=10)`` on a test makes its cases a family, of which
one in ten runs.  Cases of several tests form one family when their markers give it the same name
(``sampled(every=4, family="postgres of the registry")``).  A loop within a test takes its share with :func:`sample`.
``tests/sampled_files.toml`` lists files whose tests take long each: those of a folder are one family.

Which cases run is decided by an offset: the environment's ``OFFSET``, by default a number from the hash of HEAD.  So one
commit always runs the same cases, in a run of some files too, successive commits run others, and ``every`` successive
offsets together run all.
``--whole`` runs every case; ``--affected-since REV`` runs every case in the files that the changes since REV affect.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import pytest

_OFFSET = "OFFSET"
_WHOLE = "TRIVIUM_TEST_WHOLE"
_WHOLE_FILES = "TRIVIUM_TEST_WHOLE_FILES"
# Offsets are small enough to be typed.
_OFFSETS = 100_000
_SAMPLED_FILES = "tests/sampled_files.toml"
_ROOT = Path(__file__).resolve().parents[2]

Value = TypeVar("Value")


def sample(values: Sequence[Value], every: int) -> list[Value]:
    """Return one in ``every`` of the values, in their order and at least one; all of them in a whole run."""
    if is_whole() or _runs_in_whole_file() or every <= 1:
        return list(values)
    return list(values[offset() % min(every, max(len(values), 1)) :: every])


def is_whole() -> bool:
    """Return whether this run leaves out no case."""
    return bool(os.environ.get(_WHOLE))


def whole_files() -> frozenset[str]:
    """Return the test files, as paths from the checkout, whose families run whole because a change affects them."""
    return frozenset(filter(None, os.environ.get(_WHOLE_FILES, "").split(os.pathsep)))


def _runs_in_whole_file() -> bool:
    """Return whether the test that runs now is in a file whose families run whole."""
    return os.environ.get("PYTEST_CURRENT_TEST", "").partition("::")[0] in whole_files()


def offset() -> int:
    """Return the offset of this run."""
    return int(os.environ.get(_OFFSET) or 0)


@dataclass(frozen=True, slots=True)
class Family:
    """The cases that share a marker, and how many of them run: one in ``every``."""

    name: str
    every: int
    spans_tests: bool
    cases: list[str] = field(default_factory=list)

    def chosen(self, number: int) -> set[str]:
        """Return the cases that run at an offset.

        Only their names decide.  The cases of one test, which are always collected together, run evenly: an order by
        digest and a stride over it, since a stride over the order of collection would meet the same value of an inner
        parameter each time.  Where cases are of several tests, each is chosen by its own digest: a run of a few files
        then has the cases that a run of all files has, and an offset may have none.
        """
        if self.spans_tests:
            return {case for case in self.cases if (_digest(case) - number) % self.every == 0}
        shuffled = sorted(self.cases, key=_digest)
        return set(shuffled[number % min(self.every, len(shuffled)) :: self.every])


def _digest(case: str) -> int:
    return int.from_bytes(hashlib.sha256(case.encode()).digest())


def families(items: Sequence[pytest.Item]) -> list[Family]:
    """Return the sampled families among some tests.  Raises UsageError where one has two shares."""
    found: dict[str, Family] = {}
    for item in items:
        for name, every, spans_tests in _families_of(item):
            family = found.setdefault(name, Family(name, every, spans_tests))
            if family.every != every:
                raise pytest.UsageError(f"{item.nodeid}: the family {name} is sampled one in {family.every} elsewhere")
            family.cases.append(item.nodeid)
    return list(found.values())


def _families_of(item: pytest.Item) -> list[tuple[str, int, bool]]:
    """Return of each family that a test belongs to its name, its share, and whether it spans tests."""
    file = item.nodeid.partition("::")[0]
    marked = []
    for marker in item.iter_markers("sampled"):
        shared = marker.kwargs.get("family")
        marked.append((shared or item.nodeid.partition("[")[0], marker.kwargs["every"], shared is not None))
    every = sampled_files(item.config.rootpath).get(file)
    if marked or every is None:
        return marked
    return [(f"long tests of {file.rpartition('/')[0]}", every, True)]


@lru_cache(maxsize=8)
def sampled_files(root: Path) -> dict[str, int]:
    """Return the listed files of a checkout, each with the share that runs: one test in that many."""
    listed = root / _SAMPLED_FILES
    if not listed.is_file():
        return {}
    folders = tomllib.loads(listed.read_text())
    return {f"{folder}/{file}": family["every"] for folder, family in folders.items() for file in family["files"]}


class Sampling:
    """Leaves out the cases that are not this run's and says so at its end."""

    _left_out_all = False

    @pytest.hookimpl(trylast=True)  # a test that the markers left out is no case of a family
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Keep a case only where every family that it belongs to keeps it."""
        if is_whole() or _is_chosen_by_name(config):
            return
        left_out: set[str] = set()
        for family in families(items):
            sampled = {case for case in family.cases if case.partition("::")[0] not in whole_files()}
            left_out.update(sampled - family.chosen(offset()))
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid in left_out])
        items[:] = [item for item in items if item.nodeid not in left_out]
        self._left_out_all = bool(left_out) and not items

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the offset, and the command that repeats what failed."""
        failed = {
            report.nodeid: None for outcome in ("failed", "error") for report in terminalreporter.stats.get(outcome, [])
        }
        if is_whole():
            terminalreporter.write_line("every case of every family ran")
        else:
            terminalreporter.write_line(f"long families are sampled at OFFSET={offset()}; make soak runs them whole")
        if self._left_out_all:
            terminalreporter.write_line(f"OFFSET={offset()} leaves out all of these tests; --whole runs them")
        for test in failed:
            terminalreporter.write_line(f"to repeat: make test OFFSET={offset()} ARGS='{test}'")


def _is_chosen_by_name(config: pytest.Config) -> bool:
    """Return whether the caller named single tests: a test that is asked for by its name runs."""
    return any("::" in argument for argument in config.args)


def default_offset() -> int:
    """Return a number from the hash of HEAD; 0 outside of a repository."""
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=_ROOT, capture_output=True, text=True)
    return int(head.stdout[:12], 16) % _OFFSETS if head.returncode == 0 else 0


def _affected_files(config: pytest.Config) -> set[str]:
    """Return the files whose families the changes since a revision affect; none where the caller asks for none."""
    base, since_soak = config.getoption("--affected-since"), config.getoption("--affected-since-soak")
    if not base and not since_soak:
        return set()
    from tests.harness import affected  # builds the import graph: only where it is asked for

    return affected.whole_files(base)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the caller ask for every case."""
    parser.addoption("--whole", action="store_true", help="run every case of the sampled families")
    parser.addoption(
        "--affected-since", metavar="REV", help="run every case in the files that the changes since REV affect"
    )
    parser.addoption("--affected-since-soak", action="store_true", help="the same, since the last soak of each file")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Fix the offset in the environment, where the lanes and the tests find it."""
    if not os.environ.get(_OFFSET):
        os.environ[_OFFSET] = str(default_offset())
    if config.getoption("--whole"):
        os.environ[_WHOLE] = "1"
    if not hasattr(config, "workerinput"):
        os.environ[_WHOLE_FILES] = os.pathsep.join(sorted(_affected_files(config)))
    config.addinivalue_line(
        "markers", "sampled(every, family=None): `make test` runs one in `every` of the cases; `make soak` runs all"
    )
    config.pluginmanager.register(Sampling(), "trivium-sampling")
