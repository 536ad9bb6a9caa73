"""A soak runs every test once, survives interruptions, and reports the tests that it has not run yet."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.harness.soak.state import PASSED, State, append, read_journal
from tests.stack import eventually

ROOT = Path(__file__).resolve().parents[3]
# The yardstick takes seconds, and what it measures is not looked at.
PROGRAM = """
import pathlib, sys
from tests.harness import yardstick
from tests.harness.affected.packages import Packages
from tests.harness.soak import __main__ as soak
yardstick.seconds = lambda: 0.5
soak.packages_of = lambda root: Packages(root, {"cases": "cases"}, "cases")
sys.exit(soak.main(sys.argv[2:], pathlib.Path(sys.argv[1])))
"""
SETTINGS = """
[pytest]
addopts = -p tests.harness.plugin_timing -p tests.harness.plugin_sampling -m "not soak" --import-mode=importlib
markers = soak: runs alone
"""
# Each soaked test appends its name to one file, and waits for a file that the test here creates.
TOLD = """
import os, pathlib, pytest
MARKS = pathlib.Path({marks!r})
def say(line):
    with (MARKS / "said").open("a") as said:
        said.write(f"{{line}}\\n")
def wait(name):
    import time
    while not (MARKS / name).exists():
        time.sleep(0.01)
def told(name):
    say(f"{{name}} begins")
    yield
    say(f"{{name}} ends")
@pytest.fixture(autouse=True)
def telling(request):
    yield from told(request.node.name)
"""


@dataclass
class Tree:
    """A repository with tests, a cache, and a folder through which its tests and this one speak."""

    root: Path
    cache: Path
    marks: Path
    environment: dict[str, str] = field(default_factory=dict)

    def add(self, file: str, tests: str) -> None:
        self.write(file, TOLD.format(marks=str(self.marks)) + tests)

    def write(self, file: str, text: str) -> None:
        path = self.root / "cases" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        for folder in {path.parent, self.root / "cases"}:
            (folder / "__init__.py").touch()
        path.write_text(text)

    def git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.root), "-c", "user.name=test", "-c", "user.email=test@test", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message=tests")

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", PROGRAM, str(self.root), *arguments]
        ours = ("CI", "PYTEST_ADDOPTS", "LANES")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TRIVIUM_")}
        environment = {name: value for name, value in inherited.items() if name not in ours} | {
            # The tiny checkout ignores no file: bytecode would be a change of it.
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONPATH": str(ROOT),
            "TRIVIUM_CACHE_DIR": str(self.cache),
        }
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def soak(self, *arguments: str, code: int = 0) -> str:
        begun = self.start(*arguments)
        printed, _ = begun.communicate()
        assert begun.returncode == code, printed
        return printed

    @property
    def said(self) -> list[str]:
        file = self.marks / "said"
        return file.read_text().splitlines() if file.exists() else []

    @property
    def ended(self) -> list[str]:
        return sorted(line.removesuffix(" ends") for line in self.said if line.endswith(" ends"))

    def allow(self, name: str) -> None:
        (self.marks / name).touch()

    @property
    def head(self) -> str:
        return self.git("rev-parse", "HEAD")

    @property
    def passed(self) -> dict[str, str]:
        """The commits at which files have passed, by their names."""
        files = json.loads((self.root / "tests" / "soak.json").read_text())["files"]
        return {Path(file).stem.removeprefix("test_"): commit for file, commit in files.items()}

    @property
    def report(self) -> dict[str, Any]:
        """The recorded report of the soak of HEAD."""
        soaks = json.loads((self.root / "tests" / "soak.json").read_text())["soaks"]
        return dict(soaks[self.head])


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    made = Tree(tmp_path / "tree", tmp_path / "cache", tmp_path / "marks")
    made.marks.mkdir()
    (made.root / "tests").mkdir(parents=True)
    (made.root / "tests" / "soak.json").write_text('{"soaks": {}, "files": {}}\n')
    (made.root / "pytest.ini").write_text(SETTINGS)
    made.git("init", "--quiet")
    return made


WAITS = """
def test_{0}_before(): pass
def test_{0}_waits(): wait("{0}")
def test_{0}_after(): pass
"""


ORDERLY = [pytest.param(number, marks=pytest.mark.sampled(every=2)) for number in (signal.SIGTERM, signal.SIGINT)]


@pytest.mark.parametrize("number", [signal.SIGKILL, *ORDERLY])
def test_after_an_interruption_nothing_is_run_twice_and_nothing_is_lost(tree: Tree, number: signal.Signals) -> None:
    server = '@pytest.fixture(scope="session", autouse=True)\ndef server(): yield from told("server")\n'
    for name in ("one", "two"):
        tree.add(f"{name}/test_{name}.py", (server if name == "one" else "") + WAITS.format(name))
    tree.commit()
    begun = tree.start()
    eventually(
        lambda: {"test_one_waits begins", "test_two_waits begins"} <= set(tree.said),
        "both units wait, at the same time",
    )
    children = psutil.Process(begun.pid).children()
    begun.send_signal(number)
    printed, _ = begun.communicate()
    assert len(children) == 2
    eventually(lambda: not any(child.is_running() for child in children), "what it started has ended")
    assert "test_one_after begins" not in tree.said
    assert ("server ends" in tree.said) == (number != signal.SIGKILL)
    if number != signal.SIGKILL:
        assert begun.returncode == 128 + number
        assert "tests: 6; 4 not yet run, 2 passed" in printed
    assert tree.passed == {}
    tree.allow("one")
    tree.allow("two")
    printed = tree.soak()
    assert "4 of 6 tests: not passed yet" in printed
    assert "tests: 6; 6 passed" in printed
    tests = sorted(f"test_{name}_{part}" for name in ("one", "two") for part in ("before", "waits", "after"))
    begins = [line.removesuffix(" begins") for line in tree.said if line.startswith("test") and line.endswith("begins")]
    assert sorted(begins) == sorted([*tests, "test_one_waits", "test_two_waits"])
    assert tree.passed == {"one": tree.head, "two": tree.head}
    assert (tree.report["tests_passed"], tree.report["calls"]) == (6, 2)
    assert tree.report["failed_before_they_passed"] == []


def test_all_cases_run_and_a_test_that_measures_time_has_the_machine_to_itself(tree: Tree) -> None:
    family = '@pytest.mark.sampled(every=3)\n@pytest.mark.parametrize("n", range(4))\ndef test_family(n): pass\n'
    for name in ("one", "two"):
        starts = f"say('process of {name}')\n"
        tree.add(f"{name}/test_{name}.py", f"{starts}@pytest.mark.soak\ndef test_alone_{name}(): pass\n{family}")
    tree.commit()
    tree.soak("--lanes", "3")
    families = [f"test_family[{n}]" for n in range(4)]
    assert tree.ended == sorted(["test_alone_one", "test_alone_two", *families, *families])
    expected = [
        [f"process of {name}", f"test_alone_{name} begins", f"test_alone_{name} ends"] for name in ("one", "two")
    ]
    assert tree.said[-6:] in (expected[0] + expected[1], expected[1] + expected[0])


def test_what_fails_or_takes_its_process_down_runs_again_at_the_next_call_or_with_again(tree: Tree) -> None:
    tree.add(
        "one/test_one.py",
        "def test_before(): pass\n"
        "def test_fails(): assert (MARKS / 'mended').exists(), 'it is broken'\n"
        "def test_dies():\n    if not (MARKS / 'mended').exists():\n        os._exit(3)\n"
        "def test_skips():\n    if not (MARKS / 'mended').exists():\n        pytest.skip('not there: make it-so')\n"
        "def test_after(): pass\n",
    )
    tree.commit()
    printed = tree.soak(code=1)
    assert "failed: cases/one/test_one.py::test_fails: AssertionError: it is broken" in printed
    assert "error: cases/one/test_one.py::test_dies: its process ended with 3" in printed
    assert "skipped: cases/one/test_one.py::test_skips: Skipped: not there: make it-so" in printed
    assert "tests: 5; 1 error, 1 failed, 2 passed, 1 skipped" in printed
    assert tree.passed == {}
    assert [line for line in tree.said if "fails" in line] == ["test_fails begins", "test_fails ends"]
    tree.soak("--again", code=1)
    assert tree.said.count("test_fails begins") == 3
    tree.allow("mended")
    printed = tree.soak()
    assert "again   cases/one/test_one.py::test_fails: failed before" in printed
    assert "failed before it passed: cases/one/test_one.py::test_dies" in printed
    assert tree.said.count("test_before begins") == tree.said.count("test_after begins") == 1
    assert tree.report["failed_before_they_passed"] == [
        "cases/one/test_one.py::test_dies",
        "cases/one/test_one.py::test_fails",
    ]


def test_parts_add_up(tree: Tree) -> None:
    for name in ("one", "two"):
        tree.add(f"{name}/test_{name}.py", f"def test_{name}(): pass")
    tree.commit()
    assert "not yet known: the tests outside of these parts" in tree.soak("cases/one/test_one.py::test_one")
    assert tree.ended == ["test_one"]
    assert tree.passed == {}  # the file may have other tests
    tree.soak("cases/two")
    assert tree.passed == {"two": tree.head}
    assert "0 of 2 tests: not passed yet" in tree.soak()
    assert tree.passed == {"one": tree.head, "two": tree.head}
    assert tree.ended == ["test_one", "test_two"]
    recorded = json.loads((tree.root / "tests" / "recorded_seconds.json").read_text())
    assert recorded.keys() == {"cases/one/test_one.py", "cases/two/test_two.py"}
    # Its own results are no change to the checkout.
    assert "tests: 2; 2 passed" in tree.soak("--report")


def test_on_another_machine_a_later_soak_runs_what_a_change_can_break_and_what_is_new(tree: Tree) -> None:
    tree.write("helper.py", "VALUE = 1\n")
    tree.add("one/test_one.py", "def test_one(): pass")
    tree.add("one/test_other.py", "def test_other(): pass")
    tree.add("two/test_two.py", "from cases.helper import VALUE\ndef test_two(): assert VALUE")
    tree.commit()
    tree.soak()
    first = tree.head
    tree.write("helper.py", "VALUE = 2\n")
    tree.add("two/test_three.py", "def test_three(): pass")
    tree.commit()
    shutil.rmtree(tree.cache)
    (tree.marks / "said").unlink()
    printed = tree.soak()
    assert tree.ended == ["test_three", "test_two"]
    assert "tests: 4; 2 passed, 2 passed earlier" in printed
    assert f"passed at {first[:12]}: 2 files" in printed
    assert tree.passed == {"one": first, "other": first, "three": tree.head, "two": tree.head}
    tree.soak("--anew")
    assert tree.ended == ["test_one", "test_other", "test_three", "test_two"]
    assert set(tree.passed.values()) == {tree.head}


def test_changes_are_refused_or_have_a_soak_of_their_own_without_a_result(tree: Tree) -> None:
    tree.add("one/test_one.py", "def test_one(): pass")
    tree.commit()
    tree.add("one/test_new.py", "def test_new(): pass")
    assert "the checkout differs from its commit" in tree.soak(code=2)
    assert tree.said == []
    assert "2 passed" in tree.soak("--dirty")
    assert tree.passed == {}
    (tree.root / "cases" / "one" / "test_new.py").unlink()
    assert "tests: 0" in tree.soak("--report", code=1)


def test_a_journal_whose_writer_was_killed_within_a_line_can_be_read_and_goes_on(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    journal.write_text('{"begun": "a"}\n{"test": "a", "outcome": "passed"}\n{"begun": "b"}\n{"test": "b", "outc')
    assert [outcome.test for outcome in read_journal(journal).outcomes] == ["a"]
    assert read_journal(journal).unfinished == "b"
    append(journal, {"test": "b", "outcome": "error"})
    assert [outcome.outcome for outcome in read_journal(journal).outcomes] == [PASSED, "error"]
    append(journal, {"stopping": 1.0})
    append(journal, {"test": "c", "outcome": "failed"})
    append(journal, {"test": "d", "outcome": "passed"})
    assert [outcome.test for outcome in read_journal(journal).outcomes] == ["a", "b", "d"]


def test_one_soak_of_a_commit_runs_at_a_time(tree: Tree) -> None:
    tree.add("one/test_one.py", "def test_one(): pass")
    tree.commit()
    with State(tree.cache / "soak" / tree.git("rev-parse", "HEAD")).held():
        assert "another process runs this soak" in tree.soak(code=2)
    assert tree.said == []
