"""Answers of the quality benchmark are counted as they should be."""

import json

import numpy
import pytest

from tests.load.finetune_quality.scores import ACCURACY, Measured, exact_match, paired_interval, preference, slot_f1


def test_an_answer_is_right_word_for_word_whatever_the_spaces():
    found = exact_match(["card_arrival", "top_up", "refund"], ["card_arrival ", "top_up now", ""])
    assert found.figures == {"accuracy": pytest.approx(1 / 3)}


def test_slots_are_found_missed_and_invented_by_name_and_whole_value():
    wanted = json.dumps({"city": "Basel", "people": "2"})
    # One right; one with the wrong value, which is invented and missed; nothing else.
    found = slot_f1([wanted], ['{"people": "3", "city": "Basel"}'])
    assert found.counts.tolist() == [[1, 1, 1]]
    assert found.value == pytest.approx(0.5)
    assert found.figures["all_slots_right_rate"] == 0
    assert slot_f1([wanted], ['{"people": "2", "city": "Basel"}']).figures == {
        "slot_f1": 1.0,
        "valid_json_rate": 1.0,
        "all_slots_right_rate": 1.0,
    }


def test_a_slot_that_is_said_twice_counts_twice():
    assert slot_f1(['{"at": ["noon", "one"]}'], ['{"at": "noon"}']).counts.tolist() == [[1, 0, 1]]
    assert slot_f1(['{"at": "noon"}'], ['{"at": ["noon", "noon"]}']).counts.tolist() == [[1, 1, 0]]


@pytest.mark.parametrize("given", ["city: Basel", '{"city": "Basel"', '["Basel"]', '"Basel"', ""])
def test_what_is_no_object_has_no_slots_and_is_not_valid(given):
    found = slot_f1(['{"city": "Basel"}'], [given])
    assert found.counts.tolist() == [[0, 0, 1]]
    assert found.figures["valid_json_rate"] == 0


def test_a_value_that_is_no_text_is_a_wrong_slot():
    assert slot_f1(['{"people": "2"}'], ['{"people": {"count": 2}}']).counts.tolist() == [[0, 1, 1]]


def test_a_command_without_slots_is_right_when_nothing_is_invented():
    found = slot_f1(["{}"], ["{}"])
    assert (found.value, found.figures["all_slots_right_rate"]) == (0.0, 1.0)


def test_a_margin_of_nothing_is_neither_right_nor_wrong():
    found = preference([0.5, 0.0, -0.1, 2.0], [-1.0, -1.0, 1.0, 1.0])
    assert found.value == pytest.approx(2.5 / 4)
    assert found.figures["likelier_rate"] == 0.5
    assert found.figures["mean_margin_nats"] == pytest.approx(0.6)


def accuracy(right: list[float]) -> Measured:
    return Measured(ACCURACY, numpy.array([(value, 1.0) for value in right]), {})


def test_the_interval_of_equal_answers_is_nothing():
    answers = accuracy([1.0, 0.0] * 50)
    interval = paired_interval(answers, answers)
    assert (interval.difference, interval.low, interval.high) == (0.0, 0.0, 0.0)


def test_the_interval_is_paired_and_as_wide_as_theory_says():
    chance = numpy.random.default_rng(1)
    one = chance.random(1000) < 0.8
    # They differ in 100 rows alone, of which 70 speak for the one.
    other = one.copy()
    other[numpy.flatnonzero(one)[:70]] = False
    other[numpy.flatnonzero(~one)[:30]] = True
    interval = paired_interval(accuracy(list(one.astype(float))), accuracy(list(other.astype(float))))
    assert interval.difference == pytest.approx(0.04)
    half = 1.96 * ((0.1 - 0.04**2) / 1000) ** 0.5
    assert interval.low == pytest.approx(0.04 - half, abs=0.002)
    assert interval.high == pytest.approx(0.04 + half, abs=0.002)
