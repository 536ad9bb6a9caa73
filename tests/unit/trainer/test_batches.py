from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.trainer.batches import micro_batches, plan

LENGTHS = [5, 9, 30, 7, 12, 12, 3, 44, 8, 20]


@given(
    lengths=st.lists(st.integers(2, 200), min_size=1, max_size=80),
    batch_rows=st.integers(1, 9),
    epochs=st.integers(1, 3),
    seed=st.integers(0, 2**40),
)
def test_every_row_is_trained_on_once_an_epoch(lengths: list[int], batch_rows: int, epochs: int, seed: int) -> None:
    steps = plan(lengths, batch_rows=batch_rows, epochs=epochs, seed=seed)
    assert len(steps) == epochs * -(-len(lengths) // batch_rows)
    counted = Counter(row for step in steps for row in step)
    assert counted == dict.fromkeys(range(len(lengths)), epochs)


def test_the_plan_is_the_seeds_and_another_seed_is_another_plan() -> None:
    def made(seed: int) -> list[list[int]]:
        return plan(LENGTHS, batch_rows=2, epochs=2, seed=seed)

    assert made(1) == made(1)
    assert made(1) != made(2)
    assert made(1)[:5] != made(1)[5:]


def test_most_steps_bounds_the_plan() -> None:
    assert len(plan(LENGTHS, batch_rows=2, epochs=2, seed=0, max_steps=3)) == 3


def test_epochs_beyond_the_most_steps_are_not_planned() -> None:
    # Planned all, they would take as long as memory lasts.
    shortened = plan(LENGTHS, batch_rows=2, epochs=10**9, seed=0, max_steps=7)
    assert shortened == plan(LENGTHS, batch_rows=2, epochs=2, seed=0, max_steps=7)


@given(st.lists(st.integers(2, 300), min_size=1, max_size=30))
def test_a_step_is_split_within_the_budget_and_loses_no_row(lengths: list[int]) -> None:
    parts = micro_batches(range(len(lengths)), lengths, budget_tokens=256)
    assert sorted(row for part in parts for row in part) == list(range(len(lengths)))
    for part in parts:
        assert len(part) == 1 or len(part) * max(lengths[row] for row in part) <= 256


@pytest.mark.parametrize("rows", [[0], [3, 1, 2]])
def test_a_step_that_fits_is_not_split(rows: list[int]) -> None:
    assert len(micro_batches(rows, LENGTHS, budget_tokens=2048)) == 1
