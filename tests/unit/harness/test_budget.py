"""A run that costs more than its budget fails, and says which part of it does."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import budget
from tests.harness.budget import CostOfTest, RunCost

ROOT = Path(__file__).resolve().parents[3]
TEXT = """
is_enforced = true
cap_lane_seconds = 100
reserve_lane_seconds = 10
slow_tests = ["tests/unit/test_slow.py::test_it"]
[limits]
call_lane_seconds = 5
setup_lane_seconds = 20
excess_share = 0.5
excess_lane_seconds = 10
elapsed_excess_share = 1.5
[folders]
"tests/unit" = 40
"tests/contract" = 20
[files]
"tests/unit/test_long.py" = 30
"""


def excesses(tmp_path: Path, **cost: object) -> list[str]:
    path = tmp_path / "budget.toml"
    path.write_text(TEXT)
    within: dict[str, object] = {"lane_seconds": 90, "elapsed_seconds": 45, "lanes": 2, "files": {}, "tests": {}}
    return budget.load(path).excesses(RunCost(**{**within, **cost}))  # type: ignore[arg-type]  # one field at a time


def test_a_run_within_its_budget_has_no_excess(tmp_path: Path) -> None:
    files = {"tests/unit/test_a.py": 40, "tests/unit/test_long.py": 40, "tests/contract/test_b.py": 29}
    assert excesses(tmp_path, files=files) == []


@pytest.mark.parametrize(
    ("cost", "part"),
    [
        ({"lane_seconds": 101}, "the run"),
        ({"elapsed_seconds": 76}, "by the clock"),
        ({"files": {"tests/unit/test_a.py": 35, "tests/unit/deep/test_c.py": 26}}, "tests/unit"),
        ({"files": {"tests/contract/test_b.py": 31}}, "tests/contract"),
        ({"files": {"tests/unit/test_long.py": 46}}, "tests/unit/test_long.py"),
        ({"files": {"tests/elsewhere/test_d.py": 1}}, "tests/elsewhere/test_d.py"),
        ({"tests": {"tests/unit/test_a.py::test_x[1]": CostOfTest(0, 5.1)}}, "tests/unit/test_a.py::test_x[1]"),
        ({"tests": {"tests/unit/test_a.py::test_x": CostOfTest(20.1, 0)}}, "tests/unit/test_a.py::test_x"),
    ],
)
def test_each_part_that_costs_too_much_is_named(tmp_path: Path, cost: dict[str, object], part: str) -> None:
    (found,) = excesses(tmp_path, **cost)
    assert part in found


def test_a_listed_test_may_be_slow_and_a_file_that_ran_whole_counts_in_the_total_alone(tmp_path: Path) -> None:
    slow = {"tests/unit/test_slow.py::test_it[many]": CostOfTest(30, 60)}
    assert excesses(tmp_path, tests=slow) == []
    whole = frozenset({"tests/contract/test_b.py"})
    tests = {"tests/contract/test_b.py::test_x": CostOfTest(0, 50)}
    assert excesses(tmp_path, files={"tests/contract/test_b.py": 80}, tests=tests, whole_files=whole) == []


def test_a_part_slightly_over_its_budget_is_not_an_excess_until_both_margins_are_passed(tmp_path: Path) -> None:
    # Half more than 20 is 30, and ten more is 30, too; half more than 30 is 45, ten more would be 40.
    assert excesses(tmp_path, files={"tests/contract/test_b.py": 30}) == []
    assert excesses(tmp_path, files={"tests/unit/test_long.py": 41}) == []


def test_parts_must_sum_to_the_cap(tmp_path: Path) -> None:
    path = tmp_path / "budget.toml"
    path.write_text(TEXT.replace("reserve_lane_seconds = 10", "reserve_lane_seconds = 11"))
    with pytest.raises(ValueError, match="101"):
        budget.load(path)


def test_the_budget_of_the_suite_is_sound_and_names_what_exists() -> None:
    loaded = budget.load(ROOT / "tests" / "budget.toml")
    named = [*loaded.folders, *loaded.files, *(test.partition("::")[0] for test in loaded.slow_tests)]
    assert [path for path in named if not (ROOT / path).exists()] == []
    files = [str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py")]
    assert [file for file in files if file not in loaded.files and loaded.folder_of(file) is None] == []


@pytest.mark.sampled(every=2)
@pytest.mark.parametrize("lanes", [(), ("-p", "xdist.plugin", "-n2")])
def test_a_run_whose_tests_pass_fails_where_it_costs_too_much(tmp_path: Path, lanes: tuple[str, ...]) -> None:
    (tmp_path / "tests" / "unit").mkdir(parents=True)
    # Longer than the half second after which processor time is read again.
    busy = (
        "import time\ndef test_it():\n    end = time.process_time() + 0.6\n    while time.process_time() < end: pass\n"
    )
    (tmp_path / "tests" / "unit" / "test_long.py").write_text(busy)
    # The yardstick takes longer than the runs.
    (tmp_path / "conftest.py").write_text("from tests.harness import yardstick\nyardstick.seconds = lambda: 0.22\n")
    allowed = tmp_path / "budget.toml"
    allowed.write_text(TEXT)
    dear = tmp_path / "dear.toml"
    dear.write_text(re.sub("call_lane_seconds = 5", "call_lane_seconds = 0.01", TEXT))
    assert run(tmp_path, allowed, *lanes).returncode == pytest.ExitCode.OK
    failed = run(tmp_path, dear, *lanes)
    assert failed.returncode == pytest.ExitCode.TESTS_FAILED
    assert "budget exceeded: tests/unit/test_long.py::test_it" in failed.stdout
    dear.write_text(dear.read_text().replace("is_enforced = true", "is_enforced = false"))
    printed = run(tmp_path, dear, *lanes)
    assert printed.returncode == pytest.ExitCode.OK
    assert "budget exceeded: tests/unit/test_long.py::test_it" in printed.stdout


def run(folder: Path, allowed: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", str(folder), "-p", "no:cacheprovider"]
    for plugin in ("timing", "sampling", "budget"):
        command += ["-p", f"tests.harness.plugin_{plugin}"]
    command += ["--timing-json", str(folder / "timing.json"), "--budget", str(allowed), *options, str(folder)]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
