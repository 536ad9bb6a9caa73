"""The threshold of answers is judged on questions that it was not fitted on, and taken only where it is surely better."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.retriever.search import answerable
from services.retriever.search.calibrating import calibrated

SCORES = st.lists(st.floats(0, 1), min_size=2, max_size=30)


def test_a_collection_whose_questions_all_score_low_gets_a_threshold_between_its_two_kinds():
    found = calibrated([0.30 + at / 1000 for at in range(20)], [0.10 + at / 1000 for at in range(20)])
    assert 0.12 < found.threshold < 0.30
    assert (found.auc, found.answered, found.refused, found.taken) == (1.0, 1.0, 1.0, True)
    assert found.gain == pytest.approx(0.5)
    assert found.low > 0


def test_where_scores_tell_nothing_the_default_stays_and_its_own_figures_are_told():
    found = calibrated([0.6, 0.4] * 10, [0.4, 0.6] * 10)
    assert (found.threshold, found.taken) == (answerable.THRESHOLD, False)
    assert (found.auc, found.answered, found.refused) == (0.5, 0.5, 0.5)


def test_luck_with_one_half_of_the_questions_does_not_pass_for_a_gain():
    """What the two halves bear out contradicts each other, so that each is wrong for the other."""
    halves = [[0.9, 0.2] * 10, [0.8, 0.1] * 10]
    assert not calibrated(*halves).taken


def test_the_kinds_weigh_alike_however_many_questions_each_has():
    few, many = [0.7] * 10, [0.6] * 90
    found = calibrated(few, many)
    assert found.gain == pytest.approx(0.5)
    assert (found.answered, found.refused) == (1.0, 1.0)


@given(yes=SCORES, no=SCORES)
def test_the_parts_lie_in_their_bounds(yes, no):
    found = calibrated(yes, no)
    assert all(0 <= it <= 1 for it in (found.auc, found.answered, found.refused, found.threshold))
    assert found.low <= found.gain + 1e-9
    assert found.gain <= found.high + 1e-9
    assert found.taken == (found.low > 0)
