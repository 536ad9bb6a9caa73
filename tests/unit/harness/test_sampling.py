"""A family's cases are shared out among offsets: each runs at one, and a whole run leaves out none."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import plugin_sampling

ROOT = Path(__file__).resolve().parents[3]
TESTS = """
import pytest
from tests.harness.plugin_sampling import sample

@pytest.mark.sampled(every=5)
@pytest.mark.parametrize("step", range(10))
@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_step(step, store):
    print("ran", store, step)

SECOND = pytest.param("postgres", marks=pytest.mark.sampled(every=3, family="second store"))

@pytest.fixture(params=["sqlite", SECOND])
def store(request):
    return request.param

def test_one(store): print("ran one", store)
def test_two(store): print("ran two", store)
def test_three(store): print("ran three", store)

def test_loop():
    print("ran loop", *sample(range(10), every=5))
"""


def sampled_at(offset: int) -> dict[str, str]:
    """The environment of a run that samples, also where this run is whole."""
    inherited = {name: value for name, value in os.environ.items() if name != "TRIVIUM_TEST_WHOLE"}
    return inherited | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "OFFSET": str(offset)}


def ran(folder: Path, *options: str, offset: int, part: bool = False) -> list[str]:
    (folder / "test_family.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", str(folder), "-p", "no:cacheprovider"]
    command += ["-p", "tests.harness.plugin_sampling", "-s", *options]
    if not part and not any("::" in option for option in options):
        command.append(str(folder))
    finished = subprocess.run(command, cwd=ROOT, env=sampled_at(offset), capture_output=True, text=True)
    nothing_chosen = pytest.ExitCode.NO_TESTS_COLLECTED
    assert finished.returncode in ({0, nothing_chosen} if part else {0}), finished.stdout
    assert ("leaves out all of these tests" in finished.stdout) == (finished.returncode == nothing_chosen)
    return re.findall(r"ran (.+)", finished.stdout)


def test_successive_offsets_run_every_case_once_and_no_parameter_always(tmp_path: Path) -> None:
    runs = [ran(tmp_path, offset=offset) for offset in range(7, 12)]
    steps = [[case for case in run if re.fullmatch(r"(sqlite|postgres) \d", case)] for run in runs]
    assert [len(run) for run in steps] == [4] * 5
    assert sorted(case for run in steps for case in run) == sorted(
        f"{store} {step}" for store in ("sqlite", "postgres") for step in range(10)
    )
    assert any({case.split()[0] for case in run} == {"sqlite", "postgres"} for run in steps)
    looped = [case.removeprefix("loop ").split() for run in runs for case in run if case.startswith("loop")]
    assert sorted(value for values in looped for value in values) == [str(value) for value in range(10)]


def test_successive_offsets_run_every_case_of_a_family_of_several_tests_once(tmp_path: Path) -> None:
    runs = [[case for case in ran(tmp_path, offset=offset) if not case[-1].isdigit()] for offset in range(3)]
    assert all(sum(case.endswith("sqlite") for case in run) == 3 for run in runs)
    assert sorted(case for run in runs for case in run if case.endswith("postgres")) == sorted(
        f"{test} postgres" for test in ("one", "two", "three")
    )


def test_a_whole_run_leaves_out_nothing_and_a_test_that_is_named_runs(tmp_path: Path) -> None:
    whole = ran(tmp_path, "--whole", offset=0)
    assert len(whole) == 20 + 6 + 1
    assert "loop 0 1 2 3 4 5 6 7 8 9" in whole
    for offset in range(5):
        assert ran(tmp_path, f"{tmp_path}/test_family.py::test_step[sqlite-3]", offset=offset) == ["sqlite 3"]


def test_the_listed_files_of_a_folder_are_one_family_without_the_marked_tests(tmp_path: Path) -> None:
    folder = tmp_path / "tests" / "slow"
    folder.mkdir(parents=True)
    (tmp_path / "tests" / "sampled_files.toml").write_text(
        '["tests/slow"]\nevery = 4\nfiles = ["test_family.py", "test_more.py"]\n'
    )
    more = [f"def test_{number}(): print('ran more', {number})" for number in range(6)]
    (folder / "test_more.py").write_text("\n".join(more))
    runs = [ran(folder, f"--rootdir={tmp_path}", offset=offset) for offset in range(4)]
    listed = [case for run in runs for case in run if case.startswith("more") or case.endswith(" sqlite")]
    assert sorted(listed) == sorted(
        [*(f"more {number}" for number in range(6)), "one sqlite", "two sqlite", "three sqlite"]
    )
    assert all(len([case for case in run if re.fullmatch(r"(sqlite|postgres) \d", case)]) == 4 for run in runs)
    for offset, run in enumerate(runs):
        alone = ran(folder, f"--rootdir={tmp_path}", str(folder / "test_more.py"), offset=offset, part=True)
        assert alone == [case for case in run if case.startswith("more")]


def test_every_listed_file_is_there() -> None:
    listed = plugin_sampling.sampled_files(ROOT)
    assert listed
    assert [file for file in listed if not (ROOT / file).is_file()] == []


@pytest.mark.parametrize("offset", [0, 4])
def test_lanes_agree_on_the_cases(tmp_path: Path, offset: int) -> None:
    in_one_process = ran(tmp_path, offset=offset)
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", str(tmp_path), "-p", "no:cacheprovider"]
    command += ["-p", "tests.harness.plugin_sampling", "-p", "xdist.plugin", "-n2", "-q", str(tmp_path)]
    finished = subprocess.run(command, cwd=ROOT, env=sampled_at(offset), capture_output=True, text=True)
    assert f"{len(in_one_process)} passed" in finished.stdout, finished.stdout
    assert f"OFFSET={offset}" in finished.stdout
