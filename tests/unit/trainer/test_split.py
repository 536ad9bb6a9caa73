import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.trainer.data.split import split


@given(
    st.lists(st.integers(0, 20), max_size=60),
    st.sampled_from([0.0, 0.05, 0.2, 0.5]),
    st.integers(0, 70),
    st.integers(0, 2**40),
)
def test_a_split_parts_what_was_drawn_and_never_rows_that_say_the_same(
    rows: list[int], ratio: float, sample_rows: int, seed: int
) -> None:
    train, held_out = split(rows, ratio, sample_rows, seed)
    assert train == sorted(set(train))
    assert held_out == sorted(set(held_out))
    assert not set(train) & set(held_out)
    assert len(train) + len(held_out) == (min(sample_rows, len(rows)) if sample_rows else len(rows))
    assert not {rows[index] for index in train} & {rows[index] for index in held_out}
    assert train or not rows
    distinct = len({rows[index] for index in train + held_out})
    assert bool(held_out) == (ratio > 0 and distinct > 1)


def test_of_rows_that_all_differ_the_share_is_exact() -> None:
    train, held_out = split(range(1000), 0.1, 500, seed=7)
    assert (len(train), len(held_out)) == (450, 50)


def test_the_choice_is_the_seeds_and_stays_over_releases() -> None:
    assert split(range(12), 0.25, 8, seed=1) == split(list(range(12)), 0.25, 8, seed=1)
    assert split(range(12), 0.25, 8, seed=1) == ([2, 3, 5, 6, 7, 9], [10, 11])
    assert split(range(12), 0.25, 8, seed=2) != split(range(12), 0.25, 8, seed=1)


@pytest.mark.parametrize("seed", range(5))
def test_what_was_drawn_before_changes_nothing(seed: int) -> None:
    first = split(range(50), 0.2, 30, seed)
    random.seed(seed)
    random.random()
    assert split(range(50), 0.2, 30, seed) == first
