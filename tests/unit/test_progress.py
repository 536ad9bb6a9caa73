"""What is not tested is told: a skip names its remedy, and in CI it fails the run."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stack import eventually

ROOT = Path(__file__).resolve().parents[2]
TWO_LANES = ("-p", "xdist.plugin", "-q", "-oconsole_output_style=classic", "-n2", "--dist=loadscope")


def run(folder: Path, test: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    begun = start(folder, test, *options, **environment)
    told, crashed = begun.communicate()
    return subprocess.CompletedProcess(begun.args, begun.returncode, told, crashed)


def start(folder: Path, test: str, *options: str, **environment: str) -> subprocess.Popen[str]:
    (folder / "test_one.py").write_text(f"import pytest\n{test}\n")
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", str(folder), "-rs", *options]
    command += ["-p", "tests.plugin_progress", "-p", "no:cacheprovider", str(folder)]
    inherited = {name: value for name, value in os.environ.items() if name not in {"CI", "PYTEST_ADDOPTS"}}
    # Of the plug-ins that are installed some take seconds to load.
    alone = {**inherited, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **environment}
    return subprocess.Popen(command, cwd=ROOT, env=alone, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


SKIPS = {
    "test": "def test_it(): pytest.skip('not there: make it-so')",
    "fixture": "@pytest.fixture\ndef it(): pytest.skip('not there: make it-so')\ndef test_it(it): pass",
    "module": "pytest.skip('not there: make it-so', allow_module_level=True)",
}


@pytest.mark.parametrize("where", SKIPS)
def test_a_skip_is_a_failure_in_ci_and_is_told_elsewhere(tmp_path: Path, where: str) -> None:
    beside = "\ndef test_other(): pass" if where != "module" else ""
    (tmp_path / "test_passes.py").write_text("def test_passes(): pass\n")
    in_ci = run(tmp_path, SKIPS[where] + beside, CI="true")
    assert in_ci.returncode == pytest.ExitCode.TESTS_FAILED
    assert "1 skipped: in CI a missing component is a failure" in in_ci.stdout
    elsewhere = run(tmp_path, SKIPS[where] + beside)
    assert elsewhere.returncode == pytest.ExitCode.OK
    assert "not there: make it-so" in elsewhere.stdout


def test_in_two_lanes_each_file_still_has_one_line_and_a_skip_fails_the_run(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"test_{name}.py").write_text("def test_it(): pass\ndef test_other(): pass\n")
    ran = run(tmp_path, SKIPS["module"], *TWO_LANES, CI="true")
    told = [line.split()[:3] for line in ran.stdout.splitlines() if line.startswith("test_")]
    assert sorted(told) == [[f"test_{name}.py", "2", "passed"] for name in "abc"]
    assert "1 skipped: in CI a missing component is a failure" in ran.stdout
    assert ran.returncode == pytest.ExitCode.TESTS_FAILED


def test_a_run_without_skips_passes_in_ci(tmp_path: Path) -> None:
    assert run(tmp_path, "def test_it(): pass", CI="true").returncode == pytest.ExitCode.OK


def test_a_crash_is_told_though_a_library_has_put_its_own_handler_there(tmp_path: Path) -> None:
    (tmp_path / "test_earlier.py").write_text("import faulthandler\ndef test_library(): faulthandler.disable()\n")
    crashed = run(tmp_path, "import ctypes\ndef test_one_that_crashes(): ctypes.string_at(0)")
    assert crashed.returncode == -signal.SIGSEGV
    assert "Segmentation fault" in crashed.stderr
    assert "in test_one_that_crashes" in crashed.stderr


HANGS = """
import ctypes, pathlib, time
def test_that_passes(): pass
def test_that_hangs():
    pathlib.Path({tried!r}).open("a").write("once\\n")
    {hangs}
"""
# A lane's reports are under way while its next test begins: this is there once whoever tells of them has heard the first.
HEARD = """
import pathlib, pytest
@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report):
    if not NODES or hasattr(report, "node"):
        pathlib.Path({heard!r}).touch()
"""
# What a test of the run that is looked at does: it hangs, and this one waits for what is said of that.
ASLEEP = "time.sleep(100)"
# In foreign code that keeps the interpreter to itself.
HELD = "ctypes.PyDLL(None).sleep(100)"


@pytest.mark.parametrize("lanes", [(), TWO_LANES], ids=["one lane", "two lanes"])
def test_a_run_that_is_ended_says_where_it_hung(tmp_path: Path, lanes: tuple[str, ...]) -> None:
    tried, heard = tmp_path / "tried", tmp_path / "heard"
    (tmp_path / "conftest.py").write_text(f"NODES = {bool(lanes)}\n" + HEARD.format(heard=str(heard)))
    begun = start(tmp_path, HANGS.format(tried=str(tried), hangs=ASLEEP), *lanes)
    eventually(lambda: tried.exists() and heard.exists(), "the test began, and the one before it was reported")
    begun.terminate()
    told, crashed = begun.communicate()
    assert begun.returncode == -signal.SIGTERM
    assert "in test_that_hangs" in crashed
    assert ("ended in test_one.py" in told) == bool(lanes)


@pytest.mark.parametrize("hangs", [ASLEEP, HELD], ids=["asleep", "with the interpreter"])
def test_in_two_lanes_a_test_that_hung_until_its_time_was_over_has_failed_and_is_not_tried_again(
    tmp_path: Path, hangs: str
) -> None:
    tried = tmp_path / "tried"
    limits = ("-p", "pytest_timeout", "--timeout=2", "--timeout-method=thread")
    ran = run(tmp_path, HANGS.format(tried=str(tried), hangs=hangs) + "def test_behind(): pass", *TWO_LANES, *limits)
    assert "crashed while running 'test_one.py::test_that_hangs'" in ran.stdout
    assert "2 passed, 1 error" in ran.stdout
    assert "in test_that_hangs" in ran.stderr
    assert tried.read_text().split() == ["once"]
