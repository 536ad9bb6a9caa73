from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from services.trainer.batches import Steps, micro_batches

LENGTHS = [5, 9, 30, 7, 12, 12, 3, 44, 8, 20]


@given(
    lengths=st.lists(st.integers(2, 200), min_size=1, max_size=80),
    batch_rows=st.integers(1, 9),
    epochs=st.integers(1, 3),
    seed=st.integers(0, 2**40),
)
def test_every_row_is_trained_on_once_an_epoch(lengths: list[int], batch_rows: int, epochs: int, seed: int) -> None:
    steps = Steps(lengths, batch_rows=batch_rows, epochs=epochs, seed=seed)
    assert len(steps) == epochs * -(-len(lengths) // batch_rows)
    counted = Counter(row for step in steps.since(0) for row in step)
    assert counted == dict.fromkeys(range(len(lengths)), epochs)


@given(
    lengths=st.lists(st.integers(2, 200), min_size=1, max_size=40),
    max_steps=st.integers(0, 20),
    wanted=st.lists(st.integers(0, 40), max_size=9),
)
def test_steps_are_the_same_in_whatever_order_they_are_asked_for(
    lengths: list[int], max_steps: int, wanted: list[int]
) -> None:
    def made() -> Steps:
        return Steps(lengths, batch_rows=3, epochs=3, seed=1, max_steps=max_steps)

    asked, every = made(), list(made().since(0))
    for step in wanted:
        left = every[step:]
        assert list(asked.since(step)) == left
        assert asked.tokens_since(step) == sum(lengths[row] for rows in left for row in rows)
        if left:
            assert asked[step] == left[0]
        else:
            with pytest.raises(IndexError):
                asked[step]


def test_the_plan_is_the_seeds_and_another_seed_is_another_plan() -> None:
    def made(seed: int) -> list[list[int]]:
        return list(Steps(LENGTHS, batch_rows=2, epochs=2, seed=seed).since(0))

    assert made(1) == made(1)
    assert made(1) != made(2)
    assert made(1)[:5] != made(1)[5:]


@given(
    lengths=st.lists(st.integers(2, 20), min_size=1, max_size=80),
    batch_rows=st.integers(1, 9),
    seed=st.integers(0, 2**40),
)
def test_the_plan_is_that_of_every_release_so_that_jobs_under_way_go_on(
    lengths: list[int], batch_rows: int, seed: int
) -> None:
    steps = Steps(lengths, batch_rows=batch_rows, epochs=2, seed=seed)
    assert list(steps.since(0)) == [*spelt_out(lengths, batch_rows, seed, 0), *spelt_out(lengths, batch_rows, seed, 1)]


def spelt_out(lengths: list[int], batch_rows: int, seed: int, epoch: int) -> list[list[int]]:
    """An epoch as it was worked out in plain lists when jobs first trained by it."""
    drawn = torch.Generator().manual_seed((seed * 6364136223846793005 + epoch * 1442695040888963407 + 1) % (1 << 63))
    order = torch.randperm(len(lengths), generator=drawn).tolist()
    rows = [
        row
        for begin in range(0, len(order), batch_rows * 4)
        for row in sorted(order[begin : begin + batch_rows * 4], key=lambda row: (lengths[row], row))
    ]
    batches = [rows[begin : begin + batch_rows] for begin in range(0, len(rows), batch_rows)]
    return [batches[index] for index in torch.randperm(len(batches), generator=drawn).tolist()]


def test_most_steps_bounds_the_plan() -> None:
    assert len(Steps(LENGTHS, batch_rows=2, epochs=2, seed=0, max_steps=3)) == 3


def test_an_epoch_that_is_not_reached_takes_nothing() -> None:
    # Worked out all, they would take as long as memory lasts.
    steps = Steps(LENGTHS, batch_rows=2, epochs=10**9, seed=0)
    assert (len(steps), steps.tokens_since(5)) == (5 * 10**9, (10**9 - 1) * sum(LENGTHS))
    assert [steps[step] for step in range(10)] == list(Steps(LENGTHS, batch_rows=2, epochs=2, seed=0).since(0))
    assert steps[len(steps) - 1]


@given(st.lists(st.integers(2, 300), min_size=1, max_size=30))
def test_a_step_is_split_within_the_budget_and_loses_no_row(lengths: list[int]) -> None:
    parts = micro_batches(range(len(lengths)), lengths, budget_tokens=256)
    assert sorted(row for part in parts for row in part) == list(range(len(lengths)))
    for part in parts:
        assert len(part) == 1 or len(part) * max(lengths[row] for row in part) <= 256


@pytest.mark.parametrize("rows", [[0], [3, 1, 2]])
def test_a_step_that_fits_is_not_split(rows: list[int]) -> None:
    assert len(micro_batches(rows, LENGTHS, budget_tokens=2048)) == 1
