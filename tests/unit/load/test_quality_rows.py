"""Splits of the quality benchmark share nothing, and depend on seed and scale alone."""

from collections import Counter

import pytest

from tests.load.finetune_quality.rows import Row, dealt, distinct, grouped
from tests.load.finetune_quality.training import is_behind

ROWS = [Row(f"text {number}", f"label {number % 3}") for number in range(60)]


def by_label():
    return grouped(ROWS, lambda row: row.answer)


def test_splits_share_no_row_and_have_the_labels_alike():
    training, test = dealt(by_label(), [30, 15], 0)
    assert not set(training) & set(test)
    assert Counter(row.answer for row in training) == {"label 0": 10, "label 1": 10, "label 2": 10}
    assert Counter(row.answer for row in test) == {"label 0": 5, "label 1": 5, "label 2": 5}


def test_the_same_seed_deals_the_same_rows_and_another_one_others():
    assert dealt(by_label(), [30, 15], 0) == dealt(by_label(), [30, 15], 0)
    assert dealt(by_label(), [30, 15], 0) != dealt(by_label(), [30, 15], 1)


def test_a_set_that_is_too_small_is_said_to_be():
    with pytest.raises(ValueError, match=r"\b61\b"):
        dealt(by_label(), [61], 0)


def test_texts_that_differ_in_case_and_punctuation_are_one():
    rows = [Row("Where is it?", "a"), Row("where is it", "b"), Row("Who is it?", "c")]
    assert [row.answer for row in distinct(rows)] == ["a", "c"]
    assert distinct(rows, seen=[Row("WHO is it", "")]) == rows[:1]


def test_a_rate_is_behind_when_it_is_worse_at_the_middle_and_not_before():
    leader = {10: 3.0, 20: 2.0, 30: 1.5, 40: 1.4}
    assert not is_behind({10: 9.0}, leader)
    assert is_behind({10: 2.0, 20: 2.1}, leader)
    assert not is_behind({10: 9.0, 20: 1.9}, leader)
    assert not is_behind({10: 9.0, 20: 2.0}, leader)
