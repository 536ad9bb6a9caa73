"""A percentile is one of the values, and that of few values is not better than they are."""

import pytest

from tests.load.percentile import percentile


@pytest.mark.parametrize(
    ("count", "part", "rank"),
    [(100, 0.99, 99), (20, 0.99, 20), (1000, 0.99, 990), (5, 0.5, 3), (1, 0.99, 1), (3, 0.0, 1)],
)
def test_it_is_the_value_of_the_nearest_rank(count, part, rank):
    assert percentile(list(range(count, 0, -1)), part) == rank
