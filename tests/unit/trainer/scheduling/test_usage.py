"""Usage fades by half in a half-life, and however it is charged it comes to the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from services.trainer.scheduling.usage import (
    Usage,
    charge,
    decayed,
    joint_charges,
    solo_charge,
    window_end,
    window_tokens,
)


def test_half_is_left_after_a_half_life_and_a_clock_that_went_back_changes_nothing():
    assert decayed(Usage(100.0, 10.0), 20.0, 10.0) == 50.0
    assert decayed(Usage(100.0, 10.0), 5.0, 10.0) == 100.0


@given(some.lists(some.tuples(some.floats(0, 100), some.floats(0, 1000)), max_size=10))
def test_charging_at_once_or_bit_by_bit_comes_to_the_same(charges: list[tuple[float, float]]):
    charges.sort(key=lambda each: each[1])
    usage = Usage()
    for seconds, moment in charges:
        usage = charge(usage, seconds, moment, 300.0)
    expected = sum(decayed(Usage(seconds, moment), 1000.0, 300.0) for seconds, moment in charges)
    assert decayed(usage, 1000.0, 300.0) == pytest.approx(expected)


@given(some.dictionaries(some.text(max_size=3), some.integers(1, 1000), min_size=1), some.floats(0.001, 100))
def test_a_joint_step_is_charged_whole_and_by_tokens(tokens: dict[str, int], seconds: float):
    charges = joint_charges(seconds, tokens)
    assert sum(charges.values()) == pytest.approx(seconds)
    job = next(iter(tokens))
    assert charges[job] == pytest.approx(seconds * tokens[job] / sum(tokens.values()))


def test_a_step_of_nothing_costs_nobody_and_a_solo_process_pays_its_part_of_the_cores():
    assert joint_charges(1.0, {}) == {}
    assert joint_charges(1.0, {"a": 0}) == {}
    assert (solo_charge(10.0, 2, 8), solo_charge(10.0, 8, 2)) == (2.5, 10.0)


def test_tokens_count_in_their_window_of_the_clock():
    assert window_end(3599.0, 3600.0) == 3600.0
    assert window_end(3600.0, 3600.0) == 7200.0
    assert (window_tokens(5, 3599.0, 3599.5, 3600.0), window_tokens(5, 3599.0, 3600.0, 3600.0)) == (5, 0)
