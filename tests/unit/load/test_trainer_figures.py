"""The arithmetic between what the trainer's benchmark sees and what it prints."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any, cast

import pytest

from services.trainer.data.examples import Example
from services.trainer.settings import Objective
from tests.load.scaled import scaled
from tests.load.trainer import fairness, jobs200, trl_peer
from tests.load.trainer.coserve import Condition, told
from tests.load.trainer.jobs200 import Planned, Run, compared, most_at_once, planned
from tests.load.trainer.mixture import mixture
from tests.load.trainer.parts import rounded
from tests.load.trainer.service import Trainer
from tests.load.trainer.work import Time

RUN = Run(
    completions=[6.0, 8.0],
    trained_seconds=10.0,
    compute_seconds=9.0,
    peak_bytes=3 << 30,
    one_bytes=1 << 30,
    most_resident=2,
    supervised_tokens=1000,
)


def rates(joint: float, *sequential: float) -> dict[str, object]:
    return {
        "joint_tokens_per_second": joint,
        "joint_median_tokens_per_second": joint / 2,
        "sequential_seconds": list(sequential),
    }


def test_jobs_one_after_another_are_the_shortest_first_each_waiting_for_those_before() -> None:
    # Ten steps of a second, then four of half a second: 2 s, and 12 s.
    jobs = [Planned(0, 10), Planned(1, 4)]
    found = compared(jobs, RUN, [rates(100.0, 1.0, 0.9, 9, 9), rates(125.0, 1.5, 0.5, 9, 9)])
    assert found["sequential_mean_completion_seconds"] == (2 + 12) / 2
    assert found["mean_completion_ratio"] == 7 / 7
    assert found["utilisation_200"] == 0.9
    # The best rate of the run, not the latest.
    assert found["goodput_200"] == 100 / 125
    assert found["goodput_200_of_median"] == 200 / 125
    assert (found["jobs_200_peak_gib"], found["single_process_gib"]) == (3, 2)


def test_two_hundred_jobs_differ_tenfold_in_length_and_are_of_every_shape() -> None:
    jobs = planned(200)
    tokens = [job.steps * jobs200.SHAPES[job.shape][0] * jobs200.SHAPES[job.shape][1] for job in jobs]
    assert min(tokens) <= 288
    assert max(tokens) >= 2300
    assert {job.shape for job in jobs} == set(range(len(jobs200.SHAPES)))


def test_jobs_are_counted_that_have_a_moment_in_common() -> None:
    assert most_at_once([(0.0, 4.0), (1.0, 2.0), (2.0, 3.0), (2.5, 9.0)]) == 3
    assert most_at_once([]) == 0


def test_memory_is_of_each_process_at_its_peak() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; a = b'1' * (64 << 20); del a; print(1); sys.stdin.read()"],
        stdin=-1,
        stdout=-1,
    ) as held:
        assert held.stdout is not None
        held.stdout.readline()
        trainer = Trainer(cast("Any", None), cast("Any", held), cast("Any", None))
        assert 64 << 20 <= trainer.peak_bytes() < 256 << 20
        held.kill()


def test_the_bank_and_trl_walk_the_same_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    ours: list[list[Example]] = []
    theirs: list[list[list[Example]]] = []

    def stepper(_: object, slot: object, batches: list[list[Example]]) -> Callable[[], None]:
        return lambda: ours.extend(batches)

    def by_trl(batches: list[list[Example]]) -> Time:
        theirs.append(batches)
        return Time(1.0, 1.0)

    stand_ins: dict[str, Any] = {"base": lambda: None, "Bank": lambda base: base, "slots": lambda bank, jobs: [jobs]}
    for name, stand_in in (stand_ins | {"stepper": stepper, "_by_trl": by_trl}).items():
        monkeypatch.setattr(trl_peer, name, stand_in)
    trl_peer.trl_figures(2, 8, steps=3, rounds=2)
    first, second, third = theirs[0]
    assert len({row.tokens for batch in theirs[0] for row in batch}) == 6
    assert theirs[1] == theirs[0]
    # The first is not measured, and is not taken again.
    assert ours == [first, second, third, second, third]


def test_jains_index_is_one_for_equals_and_one_over_their_number_for_a_single_taker() -> None:
    assert fairness.jain([3.0, 3.0, 3.0]) == pytest.approx(1.0)
    assert fairness.jain([5.0, 0.0, 0.0]) == pytest.approx(1 / 3)


def test_serving_and_training_are_each_held_to_what_they_do_alone() -> None:
    alone = Condition(gaps=[0.02] * 99 + [0.05] * 2, firsts=[0.1])
    both = Condition(gaps=[0.03] * 99 + [0.10] * 2, firsts=[0.2], speeds=[60.0, 80.0])
    found = told(alone, both, Condition(speeds=[100.0, 100.0]))
    assert found["coserve_token_gap_ratio"] == pytest.approx(2.0)
    assert found["coserve_training_ratio"] == pytest.approx(0.7)


def test_a_mixture_is_the_same_each_time_and_has_every_rank_and_preferences_among_the_rest() -> None:
    jobs = mixture(40)
    assert jobs == mixture(40)
    assert {job.settings.rank for job in jobs} == {4, 8, 16, 32}
    assert {job.settings.objective for job in jobs} == set(Objective)
    assert len({job.settings.schedule for job in jobs}) == 4


def test_a_scale_leaves_at_least_what_a_part_needs_and_figures_four_digits() -> None:
    assert (scaled(200, 0.01, least=8), scaled(200, 1.0)) == (8, 200)
    assert rounded({"a": 1.23456, "b": [0.000123456], "c": {"d": 2}}) == {"a": 1.235, "b": [0.0001235], "c": {"d": 2}}
