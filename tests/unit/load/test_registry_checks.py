"""The registry's benchmark counts every swap that is lost, and none that is not."""

import pytest

from tests.load.registry.__main__ import lost

MADE = [("a", "b"), ("b", "c"), ("c", "d")]


def test_a_history_that_holds_every_swap_once_lost_none():
    assert lost(["a", "b", "c", "d"], MADE) == 0
    assert lost(["a"], []) == 0


@pytest.mark.parametrize(
    ("history", "missing"),
    [
        pytest.param(["a", "b", "c"], 1, id="the last is missing"),
        pytest.param(["a", "c", "d"], 2, id="one inside is missing, and the next stands after another"),
        pytest.param(["a", "b", "c", "d", "d"], 1, id="one stands twice"),
        pytest.param(["a", "b", "c", "d", "e"], 1, id="one that nobody was told of"),
        pytest.param(["a", "b", "c", "e"], 2, id="one is missing and a stranger stands in its place"),
        pytest.param(["a", "c", "b", "d"], 3, id="in another order"),
    ],
)
def test_each_kind_of_loss_is_counted(history, missing):
    assert lost(history, MADE) == missing
