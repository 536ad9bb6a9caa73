"""The catalogue of planted faults fits today's tree, and a trial counts only what the fault itself breaks."""

import ast
import os
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.load.mutants.catalogue import CHASSIS, SERVICES, Fault, Misplaced, load
from tests.load.mutants.runs import Ended, Outcome, Pytest
from tests.load.mutants.search import Searcher
from tests.load.mutants.state import State, Trial

ROOT = Path(__file__).resolve().parents[3]
SOURCE = """
LIMIT = 3


class Queue:
    @property
    def room(self) -> bool:
        return self.size < LIMIT


def room() -> bool:
    return self.size < LIMIT
"""


def fault(symbol: str, old: str, new: str) -> Fault:
    return Fault("a fault", CHASSIS, "services.chassis.queue", symbol, old, new, "promise 6")


def test_every_fault_fits_todays_tree_once():
    misfits = {}
    for each in load():
        try:
            ast.parse(each.planted(each.path(ROOT).read_text()))
        except (Misplaced, SyntaxError) as why:
            misfits[each.name] = str(why)
    assert not misfits
    assert [each.name for each in load() if each.old == each.new] == []


def test_there_are_enough_faults_of_every_service_and_of_the_history():
    faults = load()
    by_service = Counter(each.service for each in faults)
    assert len(faults) >= 48
    assert set(by_service) <= {*SERVICES, CHASSIS}
    assert {service: by_service[service] for service in SERVICES if by_service[service] < 5} == {}
    assert 3 * sum(bool(each.commit) for each in faults) >= len(faults)


def test_every_fault_is_named_once_and_lies_in_the_service_whose_file_has_it():
    faults = load()
    assert [name for name, count in Counter(each.name for each in faults).items() if count > 1] == []
    homes = {service: f"services.{service}." for service in (*SERVICES, CHASSIS)} | {"gateway": "gateway."}
    assert [each.name for each in faults if not each.module.startswith(homes[each.service])] == []


def test_a_fault_is_planted_in_its_symbol_alone():
    assert fault("Queue.room", "<", "<=").planted(SOURCE) == SOURCE.replace("<", "<=", 1)
    assert fault("LIMIT", "3", "4").planted(SOURCE) == SOURCE.replace("3", "4")


@pytest.mark.parametrize(("symbol", "old"), [("Queue.gone", "<"), ("Queue", "LIMITS"), ("Queue.room", "e")])
def test_a_fault_whose_place_is_not_there_once_is_not_planted(symbol: str, old: str):
    with pytest.raises(Misplaced):
        fault(symbol, old, "x").planted(SOURCE)


class Scripted:
    """Runs of tests whose outcome is known: those that fail, and files that end their process."""

    def __init__(self, *failing: str, files: Mapping[str, Sequence[str]] | None = None) -> None:
        self.failing = failing
        self.files = files or FILES
        self.ran: list[tuple[str, ...]] = []

    def run(self, tests: Sequence[str], seconds: float, *, without: Sequence[str] = (), whole: bool = False) -> Outcome:
        self.ran.append(tuple(tests))
        for test in (each for file in tests for each in self.files.get(file, [file])):
            if test in self.failing and test not in without:
                return Outcome(Ended.FAILED, (test,), 1.0)
            if test.partition("::")[0] in self.failing:
                return Outcome(Ended.FAILED, tuple(tests), 1.0)
        return Outcome(Ended.PASSED, seconds=1.0)


LIMIT = fault("LIMIT", "3", "4")
A, B, B2, C = "tests/unit/a.py", "tests/unit/b.py", "tests/unit/b2.py", "tests/contract/c.py"
FILES = {A: [f"{A}::one", f"{A}::two"], B: [f"{B}::one"], B2: [f"{B2}::one"], C: [f"{C}::one"]}


def searched(folder: Path, faulty: Scripted, clean: Scripted, seconds: float = 60.0) -> Trial:
    module = folder / "services" / "chassis" / "queue.py"
    module.parent.mkdir(parents=True, exist_ok=True)
    module.write_text(SOURCE)
    state = State(folder / "state.json")
    deadline = time.monotonic() + seconds
    searcher = Searcher(folder, lambda _: None, state, faulty, clean, threading.Lock(), lambda _: [], 10.0, deadline)
    trial = searcher.search(LIMIT, [A, B, B2, C])
    assert module.read_text() == SOURCE
    return trial


def test_a_fault_is_found_by_a_test_that_passes_without_it(tmp_path: Path):
    faulty = Scripted(f"{C}::one")
    trial = searched(tmp_path, faulty, Scripted())
    assert (trial.found_by, trial.found_again, trial.ended) == (f"{C}::one", True, True)
    assert faulty.ran == [(A,), (B, B2), (C,), (f"{C}::one",)]


def test_a_test_that_fails_without_the_fault_finds_nothing_and_hides_no_other(tmp_path: Path):
    trial = searched(tmp_path, Scripted(f"{A}::one", f"{A}::two"), Scripted(f"{A}::one"))
    assert (trial.found_by, trial.broken) == (f"{A}::two", [f"{A}::one"])


def test_a_file_whose_process_ends_finds_the_fault_by_itself(tmp_path: Path):
    assert searched(tmp_path, Scripted(B), Scripted()).found_by == B
    assert searched(tmp_path / "without", Scripted(B), Scripted(B)).found_by == ""


def test_a_turn_goes_on_where_the_one_before_ended(tmp_path: Path):
    first, second = Scripted(), Scripted(f"{C}::one")
    assert not searched(tmp_path, first, Scripted(), seconds=0).ended
    assert not first.ran
    state = State(tmp_path / "state.json")
    state.trial(LIMIT.key).passed += [A, B, B2]
    state.save()
    assert searched(tmp_path, second, Scripted()).found_by == f"{C}::one"
    assert second.ran[0] == (C,)


def test_what_a_part_of_the_tests_has_found_counts_and_what_it_has_not_found_is_tried_again(tmp_path: Path):
    sample, whole = State(tmp_path / "sample.json"), State(tmp_path / "whole.json")
    sample.trial("found").found_by = f"{A}::one"
    sample.trial("found").ended = sample.trial("missed").ended = True
    whole.take_found(sample)
    assert (whole.trial("found").ended, whole.trial("missed").ended) == (True, False)


TESTS = """
import os, threading

def test_fails(): assert False
def test_dies(): os._exit(3)
def test_hangs(): threading.Event().wait()
"""


@pytest.mark.parametrize(
    ("name", "ended", "seconds"),
    [("fails", Ended.FAILED, 60.0), ("dies", Ended.FAILED, 60.0), ("hangs", Ended.TIMED_OUT, 1.0)],
)
def test_a_run_says_how_it_ended(tmp_path: Path, name: str, ended: Ended, seconds: float):
    tests = tmp_path / "test_of_the_run.py"
    tests.write_text(TESTS)
    alone = (("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1"),)
    run = Pytest(ROOT, ("-c", os.devnull), alone, tmp_path / "log", threading.Event())
    outcome = run.run([f"{tests}::test_{name}"], seconds)
    assert outcome.ended is ended
    assert len(outcome.failed) == 1
