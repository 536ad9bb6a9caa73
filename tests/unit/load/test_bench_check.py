"""What `make bench-check` runs, how it compares figures, and that an interrupted check goes on."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tests.load.bench_check import stored
from tests.load.bench_check.benchmarks import BENCHMARKS, Benchmark, Better, Key
from tests.load.bench_check.check import Check, compare, status, store
from tests.load.bench_check.comparison import Verdict, better_of, bound, compared, verdict
from tests.load.bench_check.progress import Progress, Taken, code
from tests.load.bench_check.quick_parts import RATIOS
from tests.load.bench_check.run import BenchmarkFailure, end, figures, run
from tests.load.bench_check.stored import Earlier, Record, Spread, Stored
from tests.load.gateway.chat import told_first_tokens, told_throughput
from tests.load.generator.shapes import FOUR, OFF
from tests.load.trainer.speed import CURVE

RATIO = Key("ratio")
DELAY = Key("delay_ms", Better.LOWER, least=5.0, is_ratio=False)
HERE, ELSEWHERE = "2 x this", "8 x other"
# Ends with the next line of its file, which it takes out.
FAKE = 'line=$(head -n 1 "$1"); sed -i 1d "$1"; echo "a table for people"; [ "$line" != null ] && echo "$line"'


def fake(values: Path, *runs: dict | None, name: str = "fake", keys: tuple[Key, ...] = (RATIO,)) -> Benchmark:
    """A benchmark that ends with one of these objects a run; None fails."""
    values.write_text("".join(f"{json.dumps(each)}\n" for each in runs))
    return Benchmark(name, ("sh", "-c", FAKE, "fake", str(values)), keys, seconds=1, limit_seconds=60)


def left(benchmark: Benchmark) -> int:
    """How many of a fake benchmark's runs have not been asked for."""
    return len(Path(benchmark.command[-1]).read_text().splitlines())


def checking(folder: Path, *benchmarks: Benchmark, busy: float = 0.0) -> Check:
    return Check(benchmarks, Progress(folder / "progress"), folder / "stored.json", HERE, "abc", busy=lambda: busy)


def record(hardware: str = HERE, **values: tuple[float, ...]) -> Record:
    return Record("python -m fake", hardware, "aaa", (0.0,), {name: Spread(each) for name, each in values.items()})


def stored_in(folder: Path, name: str = "fake", **values: tuple[float, ...]) -> None:
    stored.save(folder / "stored.json", {name: Stored((record(HERE, **values),))})


@pytest.fixture
def one(tmp_path):
    """A benchmark that ends with any output that it is given."""

    def made(program: str, limit_seconds: float = 60) -> Benchmark:
        return Benchmark("one", (sys.executable, "-c", program), (RATIO, DELAY), 1, limit_seconds)

    return made


class TestRun:
    def test_the_last_line_has_the_figures(self, one, tmp_path):
        program = 'print("{1}"); print("a | b"); print(\'{"ratio": 0.5, "delay_ms": 3, "more": []}\')'
        assert run(one(program), tmp_path / "log" / "one.out") == {"ratio": 0.5, "delay_ms": 3.0}

    @pytest.mark.parametrize("value", ["null", "true", '"0.5"', "NaN", "[1]"])
    def test_what_is_no_number_is_left_out(self, one, value):
        assert figures(one(""), f'{{"ratio": {value}, "delay_ms": 1}}') == {"delay_ms": 1.0}

    @pytest.mark.parametrize("output", ["", "\n", "done", "[1]", '{"ratio": 1}\ndone', '{"ratio": '])
    def test_an_output_that_ends_otherwise_fails(self, one, output):
        with pytest.raises(BenchmarkFailure, match="JSON"):
            figures(one(""), output)

    def test_a_status_fails_with_what_it_told(self, one, tmp_path):
        program = 'import sys; print(\'{"ratio": 1}\'); print("no data", file=sys.stderr); sys.exit(3)'
        with pytest.raises(BenchmarkFailure, match=r"(?s)status 3.*no data"):
            run(one(program), tmp_path / "one.out")

    def test_the_time_limit_fails(self, one, tmp_path):
        with pytest.raises(BenchmarkFailure, match=r"0\.2 s"):
            run(one("import time; time.sleep(600)", limit_seconds=0.2), tmp_path / "one.out")

    def test_what_it_started_ends_with_it(self):
        # A shell's background processes ignore interrupts.
        process = subprocess.Popen(["sh", "-c", "sleep 600 & echo $!; wait"], stdout=subprocess.PIPE)
        assert process.stdout is not None
        with process.stdout:
            below = psutil.Process(int(process.stdout.readline()))
            end(process)
        assert process.poll() is not None
        below.wait(timeout=60)


class TestVerdict:
    @pytest.mark.parametrize(
        ("key", "values", "now", "expected"),
        [
            # Half of the spread is 0.1, more than 10 % of the median.
            (RATIO, (0.6, 0.7, 0.8), 0.501, Verdict.OK),
            (RATIO, (0.6, 0.7, 0.8), 0.499, Verdict.WORSE),
            (RATIO, (0.6, 0.7, 0.8), 0.899, Verdict.OK),
            (RATIO, (0.6, 0.7, 0.8), 0.901, Verdict.BETTER),
            # Runs that are alike: 10 % of the median.
            (RATIO, (1.0, 1.0, 1.0), 0.901, Verdict.OK),
            (RATIO, (1.0, 1.0, 1.0), 0.899, Verdict.WORSE),
            (RATIO, (1.0, 1.0, 1.0), 1.101, Verdict.BETTER),
            # The chassis, whose fall nothing told.
            (RATIO, (0.66, 0.671, 0.68), 0.54, Verdict.WORSE),
            # Lower is better, and the least difference is more than 10 % of what is near zero.
            (DELAY, (-1.0, 0.0, 1.0), 5.9, Verdict.OK),
            (DELAY, (-1.0, 0.0, 1.0), 6.1, Verdict.WORSE),
            (DELAY, (-1.0, 0.0, 1.0), -6.1, Verdict.BETTER),
            # 10 % of a negative median is room, too.
            (DELAY, (-100.0, -100.0, -100.0), -91.0, Verdict.OK),
            (DELAY, (-100.0, -100.0, -100.0), -89.0, Verdict.WORSE),
            # A count that is zero in each run has no room.
            (Key("wrong", Better.LOWER), (0.0, 0.0, 0.0), 0.0, Verdict.OK),
            (Key("wrong", Better.LOWER), (0.0, 0.0, 0.0), 1.0, Verdict.WORSE),
            (Key("ndcg", share=0.005), (0.98, 0.98, 0.98), 0.974, Verdict.WORSE),
        ],
    )
    def test_it_goes_by_the_worst_and_the_best_run(self, key, values, now, expected):
        assert verdict(key, now, Spread(values)) is expected

    def test_the_bound_itself_is_not_worse(self):
        key, spread = Key("ratio", share=0.5), Spread((1.0, 1.0, 1.0))
        assert bound(key, spread) == 0.5
        assert verdict(key, 0.5, spread) is Verdict.OK

    def test_only_ratios_are_compared_with_other_hardware(self, one):
        now, kept = {"ratio": 0.5, "delay_ms": 99.0}, record(ELSEWHERE, ratio=(0.5,) * 3, delay_ms=(1.0,) * 3)
        assert [it.verdict for it in compared(one(""), now, kept, HERE)] == [Verdict.OK, Verdict.NOT_COMPARED]
        assert [it.verdict for it in compared(one(""), now, kept, ELSEWHERE)] == [Verdict.OK, Verdict.WORSE]

    @pytest.mark.parametrize(
        ("now", "kept"),
        [({"ratio": 0.5}, None), ({}, record(ratio=(0.5,) * 3)), ({"ratio": 0.5}, record(other=(0.5,) * 3))],
    )
    def test_a_figure_that_one_side_lacks_is_missing(self, tmp_path, now, kept):
        (found,) = compared(fake(tmp_path / "values"), now, kept, HERE)
        assert found.verdict is Verdict.MISSING

    def test_the_better_of_two_runs_counts(self):
        two = ({"ratio": 0.4, "delay_ms": 3.0}, {"ratio": 0.5, "delay_ms": 7.0})
        assert better_of((RATIO, DELAY), *two) == {"ratio": 0.5, "delay_ms": 3.0}
        assert better_of((RATIO, DELAY), {}, {"ratio": 0.5}) == {"ratio": 0.5}


class TestCheck:
    @pytest.mark.parametrize(
        ("runs", "count", "expected"),
        [
            ([{"ratio": 1.0}], 1, 0),
            ([{"ratio": 2.0}], 1, 0),
            # Measured once more before it counts.
            ([{"ratio": 0.5}, {"ratio": 0.95}], 2, 0),
            ([{"ratio": 0.5}, {"ratio": 0.6}], 2, 1),
            ([{"ratio": 0.5}, None], 2, 1),
            ([{}], 1, 2),
            ([None], 1, 2),
        ],
    )
    def test_the_status_tells_what_became_of_it(self, tmp_path, runs, count, expected):
        stored_in(tmp_path, ratio=(1.0, 1.0, 1.0))
        benchmark = fake(tmp_path / "values", *runs, {"ratio": 1.0})
        check = checking(tmp_path, benchmark)
        assert status(check, compare(check)) == expected
        assert left(benchmark) == len(runs) + 1 - count

    def test_nothing_stored_is_not_well(self, tmp_path):
        check = checking(tmp_path, fake(tmp_path / "values", {"ratio": 1.0}))
        assert status(check, compare(check)) == 2

    def test_an_interrupted_check_goes_on_and_the_next_one_measures_anew(self, tmp_path):
        stored_in(tmp_path, "first", ratio=(1.0, 1.0, 1.0))
        first = fake(tmp_path / "first", {"ratio": 1.0}, {"ratio": 0.99}, name="first")
        second = fake(tmp_path / "second", {"ratio": 1.0}, {"ratio": 1.0}, name="second")

        def interrupted() -> float:
            if left(first) == 1:
                raise KeyboardInterrupt
            return 0.0

        with pytest.raises(KeyboardInterrupt):
            compare(replace(checking(tmp_path, first, second), busy=interrupted))
        assert (left(first), left(second)) == (1, 2)
        found = compare(checking(tmp_path, first, second))
        assert [it.now for it in found] == [1.0, 1.0]
        assert (left(first), left(second)) == (1, 1)

        found = compare(checking(tmp_path, first, second))
        assert [it.now for it in found] == [0.99, 1.0]

    def test_a_failure_does_not_keep_the_others_from_running(self, tmp_path):
        second = fake(tmp_path / "second", {"ratio": 1.0}, name="second")
        check = checking(tmp_path, fake(tmp_path / "first", None), second)
        compare(check)
        assert set(check.failed) == {"fake"}
        assert left(second) == 0


class TestStore:
    def test_it_keeps_each_run_with_where_it_was_taken(self, tmp_path):
        benchmark = fake(tmp_path / "values", *({"ratio": ratio} for ratio in (0.5, 0.7, 0.6)))
        store(checking(tmp_path, benchmark, busy=0.02), 3)
        (kept,) = stored.load(tmp_path / "stored.json")["fake"].measured
        assert kept == Record(benchmark.told, HERE, "abc", (0.02,) * 3, {"ratio": Spread((0.5, 0.7, 0.6))})
        assert json.loads((tmp_path / "stored.json").read_text())["fake"]["measured"][0]["figures"]["ratio"] == {
            "median": 0.6,
            "spread": [0.5, 0.7],
            "values": [0.5, 0.7, 0.6],
        }

    def test_it_hides_no_fall(self, tmp_path):
        was = Earlier("000", ELSEWHERE, "when it was built", {"ratio": 0.9})
        other, same = record(ELSEWHERE, ratio=(0.8,) * 3), record(ratio=(0.7,) * 3)
        stored.save(tmp_path / "stored.json", {"fake": Stored((same, other), (was,)), "another": Stored((same,))})
        store(checking(tmp_path, fake(tmp_path / "values", *[{"ratio": 0.5}] * 3)), 3)

        found = stored.load(tmp_path / "stored.json")
        assert found["another"] == Stored((same,))
        assert [it.figures["ratio"].median for it in found["fake"].measured] == [0.8, 0.5]
        assert found["fake"].was[0] == was
        assert [(it.commit, it.figures) for it in found["fake"].was[1:]] == [("aaa", {"ratio": 0.7})]
        assert found["fake"].best(RATIO) == (0.9, "000")
        assert found["fake"].record(HERE) == found["fake"].record("a third") == found["fake"].measured[1]

    def test_it_goes_on_after_an_interrupted_one_and_the_next_one_measures_anew(self, tmp_path):
        runs = [{"ratio": ratio} for ratio in (0.5, 0.6, 0.7, 0.8)]
        benchmark = fake(tmp_path / "values", *runs[:2], None, *runs[2:], *runs[:2])
        check = checking(tmp_path, benchmark)
        store(check, 3)
        assert set(check.failed) == {"fake"}
        assert stored.load(tmp_path / "stored.json") == {}
        store(checking(tmp_path, benchmark), 3)
        assert stored.load(tmp_path / "stored.json")["fake"].measured[0].figures["ratio"].values == (0.5, 0.6, 0.7)
        store(checking(tmp_path, benchmark), 3)
        assert stored.load(tmp_path / "stored.json")["fake"].measured[0].figures["ratio"].values == (0.8, 0.5, 0.6)

    def test_it_refuses_while_others_use_the_processors(self, tmp_path):
        benchmark = fake(tmp_path / "values", {"ratio": 0.5})
        check = checking(tmp_path, benchmark, busy=0.5)
        store(check, 3)
        assert set(check.failed) == {"fake"}
        assert left(benchmark) == 1
        assert not (tmp_path / "stored.json").exists()

    def test_a_run_that_a_check_kept_from_a_busy_machine_is_measured_anew(self, tmp_path):
        benchmark = fake(tmp_path / "values", *[{"ratio": 0.5}] * 3)
        check = checking(tmp_path, benchmark)
        check.progress.keep("fake", 0, Taken({"ratio": 0.1}, busy=0.5))
        store(check, 3)
        assert stored.load(tmp_path / "stored.json")["fake"].measured[0].figures["ratio"].values == (0.5,) * 3

    def test_a_figure_that_one_run_lacks_is_not_stored(self, tmp_path):
        check = checking(tmp_path, fake(tmp_path / "values", {"ratio": 0.5}, {"ratio": 0.5}, {}))
        store(check, 3)
        assert set(check.failed) == {"fake"}
        assert not (tmp_path / "stored.json").exists()


def test_what_is_resumed_is_of_the_same_code(tmp_path):
    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=t", "-c", "user.email=t@t")
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    def written(name: str, text: str) -> str:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
        return code(tmp_path)

    git("init")
    (tmp_path / "code.py").write_text("1")
    git("add", ".")
    git("commit", "-m", "first")
    clean = code(tmp_path)
    assert "+" not in clean
    for name in ("docs/figures.json", "README.md", "tests/README.md"):
        assert written(name, "words") == clean
    changed, again = written("code.py", "2"), written("code.py", "3")
    added, more = written("new.py", "1"), written("new.py", "2")
    assert len({clean, changed, again, added, more}) == 5
    git("add", ".")
    git("commit", "-m", "second")
    assert code(tmp_path).partition("+")[0] != clean


class TestBenchmarks:
    def test_all_of_them_take_twenty_minutes(self):
        assert sum(benchmark.seconds for benchmark in BENCHMARKS) <= 20 * 60
        assert all(benchmark.seconds < benchmark.limit_seconds for benchmark in BENCHMARKS)

    def test_names_are_unique_and_commands_exist(self):
        assert len({benchmark.name for benchmark in BENCHMARKS}) == len(BENCHMARKS)
        for benchmark in BENCHMARKS:
            assert importlib.util.find_spec(benchmark.command[2]), benchmark.told
            assert len({key.name for key in benchmark.keys}) == len(benchmark.keys) > 0

    def test_the_parts_tell_the_figures_that_are_compared(self):
        keys = {benchmark.name: {key.name for key in benchmark.keys} for benchmark in BENCHMARKS}
        assert keys["generator"] == {ratio.key for ratio in RATIOS}
        assert {shape for ratio in RATIOS for shape, _ in (ratio.over, ratio.under)} == {OFF, FOUR}
        assert keys["trainer"] == {f"joint_ratio_{CURVE[0][0]}", f"joint_cpu_ratio_{CURVE[0][0]}"}
        chat_keys = set()
        for of in ("", "adapter_"):
            by_door = {"suite": [2.0], "vllm": [1.0]}
            chat_keys |= {*told_throughput(of, [1.0], [1.0]), *told_first_tokens(of, by_door, by_door)}
        assert keys["gateway"] <= chat_keys

    def test_stored_figures_are_of_benchmarks_that_run(self):
        known = {benchmark.name: {key.name for key in benchmark.keys} for benchmark in BENCHMARKS}
        found = stored.load(stored.PATH)
        assert found["rpc"].was, "the figures of the chassis when it was built"
        for name, each in found.items():
            for taken in each.measured:
                assert set(taken.figures) <= known[name]
                assert all(len(spread.values) >= 3 for spread in taken.figures.values())
                assert taken.command
                assert taken.hardware
                assert taken.commit
