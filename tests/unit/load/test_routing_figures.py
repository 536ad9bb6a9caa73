"""The figures of routing are those of a count by hand, over the questions as they are and over resamples of them."""

import numpy as np
import pytest

from tests.load.routing import figures
from tests.load.routing.trial import Choices

# Six questions that have an adapter, one of them left to the base and one ranked wrongly; four of nobody, one accepted.
CHOICES = Choices(
    np.array([True, True, True, False, True, True]),
    np.array([0.9, 0.8, 0.5, 0.4, 0.3, -0.2]),
    {"outside": np.array([-0.5, -0.4, -0.1, 0.35])},
)
ASKED, NOBODY = np.ones((1, 6)), np.ones((1, 4))


def _first(told):
    return {name: values[0] for name, values in told.items()}


def test_figures_at_the_threshold_are_a_count_by_hand():
    ranked, told = (
        _first(figures.ranking(CHOICES, ASKED)),
        _first(figures.abstaining(CHOICES, "outside", ASKED, NOBODY)),
    )
    assert ranked == pytest.approx({"accuracy": 5 / 6, "with_threshold": 4 / 6})
    assert (told["precision"], told["recall"], told["f1"], told["all_right"]) == pytest.approx(
        (3 / 4, 3 / 4, 3 / 4, 7 / 10)
    )


def test_figures_of_every_threshold_are_a_count_of_pairs():
    told = _first(figures.abstaining(CHOICES, "outside", ASKED, NOBODY))
    nobody = CHOICES.nobody["outside"]
    assert told["auroc"] == pytest.approx(np.mean(CHOICES.confidence[:, None] > nobody))
    # By rank, the least sure first: nobody's are the 1st, 2nd, 4th and 6th.
    assert told["average_precision"] == pytest.approx((1 / 1 + 2 / 2 + 3 / 4 + 4 / 6) / 4)
    curve = figures.precision_at(CHOICES, "outside")
    assert (curve[0], curve[-1]) == pytest.approx((2 / 2, 4 / 6))


def test_a_question_that_counts_twice_is_as_two_and_one_that_counts_for_nothing_as_none():
    asked, nobody = np.array([[2.0, 1, 1, 1, 1, 0]]), np.array([[1.0, 1, 2, 0]])
    twice = Choices(
        CHOICES.ranked_first[[0, 0, 1, 2, 3, 4]],
        CHOICES.confidence[[0, 0, 1, 2, 3, 4]],
        {"outside": CHOICES.nobody["outside"][[0, 1, 2, 2]]},
    )
    ones = np.ones((1, 6)), np.ones((1, 4))
    weighted, repeated = (
        _first(figures.abstaining(CHOICES, "outside", asked, nobody)),
        _first(figures.abstaining(twice, "outside", *ones)),
    )
    assert {name: weighted[name] for name in ("precision", "f1", "auroc", "all_right")} == pytest.approx(
        {name: repeated[name] for name in ("precision", "f1", "auroc", "all_right")}
    )


def test_one_confidence_for_all_is_no_success():
    same = Choices(np.ones(6, bool), np.zeros(6), {"outside": np.zeros(4)})
    assert figures.abstaining(same, "outside", ASKED, NOBODY)["auroc"][0] == 0


def test_an_interval_holds_its_figure_and_narrows_with_questions():
    bounds = [figures.interval(figures.resampled(count)[:, : count // 2].mean(1)) for count in (40, 400)]
    assert all(low < mean < high for mean, low, high in bounds)
    assert bounds[1][2] - bounds[1][1] < bounds[0][2] - bounds[0][1]
