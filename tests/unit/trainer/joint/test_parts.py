"""The pieces that a job is made of: its rows as arrays, its units, its history, its answers."""

import pytest

from services.trainer.data.examples import Example, Judged, Pair
from services.trainer.joint.answers import measures, question, token_f1, valid_json
from services.trainer.joint.dataset import Kind, Rows, rows_of
from services.trainer.joint.history import History
from services.trainer.joint.mismatching import mismatch
from services.trainer.joint.units import parts
from services.trainer.settings import Metric, Settings


def example(asked: int, answered: int, first: int = 1) -> Example:
    tokens = tuple(range(first, first + asked + answered))
    return Example(tokens, (False,) * asked + (True,) * answered)


def test_units_hold_no_more_tokens_than_the_budget_but_one_row_always_fits() -> None:
    assert parts([3, 3, 3, 9, 1], 6) == [range(2), range(2, 3), range(3, 4), range(4, 5)]
    assert parts([], 6) == []


def test_rows_are_what_was_laid_down_also_in_another_process() -> None:
    rows = rows_of([Pair(example(2, 1), example(2, 3)), Pair(example(1, 1, 9), example(1, 2, 9))], 100)
    read = Rows.decode(rows.encode(), Kind.PAIR)
    assert read.lengths.tolist() == rows.lengths.tolist() == [8, 5]
    assert read.sequences([1]) == [example(1, 1, 9), example(1, 2, 9)]
    assert read.longest_tokens == 5
    assert read.highest_token == 11
    assert rows_of([example(1, 2), example(3, 1)], 10).supervised_tokens([0, 1]) == 3


def test_a_judged_row_is_asked_beside_its_question_with_the_answer_of_the_row_before() -> None:
    rows = rows_of([Judged(example(2, 1), True), Judged(example(3, 2, 50), False)], 100)
    assert rows.lengths.tolist() == [3, 5]
    assert rows.desirable.tolist() == [True, False]
    assert rows.sequence(3) == Example((50, 51, 52, 3), (False, False, False, True))
    # The first row's neighbour is the last.
    assert rows.sequence(1).tokens == (1, 2, 53, 54)


def test_a_mismatch_is_cut_to_the_limit_but_keeps_a_token_of_the_answer() -> None:
    assert mismatch(example(3, 1), example(1, 5, 50), 5).tokens == (1, 2, 3, 51, 52)
    assert mismatch(example(3, 1), example(1, 5, 50), 2).tokens == (1, 2, 3, 51)


def test_the_best_evaluation_is_remembered_and_patience_ends() -> None:
    history = History()
    settings = Settings(early_stopping_patience=2, early_stopping_delta=0.1)
    assert history.add(1, 2.0, settings)
    # Better, and so the best, but by too little to go on for.
    assert history.add(2, 1.95, settings)
    assert not history.ended
    assert not history.add(3, 2.5, settings)
    assert history.ended
    assert (history.best_step, history.best_value) == (2, 1.95)


def test_a_gain_larger_than_the_delta_starts_patience_anew() -> None:
    history = History()
    settings = Settings(early_stopping_patience=2, metric=Metric.EXACT_MATCH)
    for step, value in enumerate([0.1, 0.1, 0.2, 0.2], start=1):
        history.add(step, value, settings)
        assert not history.ended
    history.add(5, 0.2, settings)
    assert history.ended
    assert history.best_step == 3


def test_a_question_is_what_stands_before_the_last_answer() -> None:
    both = Example((1, 2, 3, 4, 5, 6), (False, True, True, False, True, True))
    found = question(both)
    assert found is not None
    assert found.prompt.tokens == (1, 2, 3, 4)
    assert found.expected == (5, 6)
    assert question(Example((1, 2), (True, True))) is None


def test_words_count_without_case_punctuation_and_articles() -> None:
    assert token_f1("The Eiffel Tower.", "eiffel tower") == 1.0
    assert token_f1("in Paris, France", "Paris") == pytest.approx(0.5)
    assert token_f1("", "") == 1.0
    assert token_f1("Paris", "") == 0.0


@pytest.mark.parametrize(("given", "valid"), [('{"a": [1]}', True), ("[]", True), ("7", False), ('{"a": ', False)])
def test_json_is_an_object_or_a_list(given: str, valid: bool) -> None:
    assert valid_json(given) is valid


def test_a_deeply_nested_answer_is_no_json() -> None:
    assert not valid_json("[" * 100_000)


def test_measures_are_means() -> None:
    found = measures([("a b", "a  b"), ("{}", "x")])
    assert found == {"exact_match": 0.5, "token_f1": 0.5, "valid_json": 0.5}
