"""With which answers judged rows are mismatched."""

import itertools
from collections.abc import Sequence

import pytest

from services.trainer.data.examples import Example, Judged
from services.trainer.joint.dataset import Kind, Splits, rows_of
from services.trainer.joint.mismatching import Pairing, mismatches
from services.trainer.solo.feeds import JudgedFeed


def judged(question: int, answer: int, desirable: bool = True) -> Judged:
    """A row of a question of two tokens and an answer of one."""
    return Judged(Example((1, question, answer), (False, False, True)), desirable)


def pairs(questions: Sequence[int]) -> list[Judged]:
    """As preference pairs come to KTO: the answers to question 10 are 11 and 12."""
    return [judged(asked, asked + place + 1, place == 0) for asked in questions for place in range(2)]


def given(rows: Sequence[Judged], pairing: Pairing = Pairing.OTHER_QUESTION) -> list[int]:
    """The answer that each row's question is given."""
    found = mismatches(rows, 100, pairing)
    assert [example.tokens[:2] for example in found] == [row.example.tokens[:2] for row in rows]
    return [example.tokens[2] for example in found]


def test_of_pairs_wanted_answers_are_given_to_the_next_question_and_others_likewise() -> None:
    assert given(pairs([10, 20, 30])) == [31, 32, 11, 12, 21, 22]


def test_pairs_are_mismatched_as_trl_does_but_for_the_first_of_its_block() -> None:
    from datasets import Dataset
    from trl.data_utils import unpair_preference_dataset

    questions = [10, 20, 30, 40]
    paired = {
        "prompt": [str(asked) for asked in questions],
        "chosen": [str(asked + 1) for asked in questions],
        "rejected": [str(asked + 2) for asked in questions],
    }
    block = unpair_preference_dataset(Dataset.from_dict(paired))
    # What its trainer does with the answers of a block (`KTOTrainer._prepare_dataset`).
    moved = [block["completion"][-1], *block["completion"][:-1]]
    theirs = {
        (prompt, label): answer for prompt, label, answer in zip(block["prompt"], block["label"], moved, strict=True)
    }
    rows = pairs(questions)
    ours = {
        (str(row.example.tokens[1]), row.desirable): str(answer) for row, answer in zip(rows, given(rows), strict=True)
    }
    assert ours.keys() == theirs.keys()
    assert {row for row in ours if ours[row] != theirs[row]} == {("10", True), ("10", False)}
    # Its own condition for the best results.
    assert sorted(ours.values()) == sorted(block["completion"])


def test_a_row_is_given_an_answer_to_the_nearest_question_before_it_that_is_another() -> None:
    for count in range(1, 7):
        for questions in itertools.product((10, 20, 30), repeat=count):
            rows = [judged(asked, asked + place) for place, asked in enumerate(questions)]
            for place, answer in enumerate(given(rows)):
                before = [questions[place - distance] for distance in range(1, count + 1)]
                nearest = next((asked for asked in before if asked != questions[place]), questions[place])
                assert answer // 10 * 10 == nearest


@pytest.mark.parametrize("rows", [[judged(10, 11)], [judged(10, 11), judged(10, 12), judged(10, 13)]])
def test_where_all_rows_ask_the_same_it_is_the_row_before(rows: list[Judged]) -> None:
    assert given(rows) == given(rows, Pairing.ROW_BEFORE) == [row.example.tokens[2] for row in (rows[-1], *rows[:-1])]


def test_where_neighbours_ask_different_things_nothing_is_other_than_in_earlier_releases() -> None:
    rows = [judged(asked, asked + place) for place, asked in enumerate([10, 20, 30, 10, 20])]
    assert given(rows) == given(rows, Pairing.ROW_BEFORE)


@pytest.mark.parametrize("pairing", Pairing)
def test_jobs_on_the_bank_and_alone_have_the_same_mismatches(pairing: Pairing) -> None:
    rows = pairs([10, 20, 20, 30])
    laid = rows_of(rows, 100, pairing)
    alone = JudgedFeed(rows, 100, pairing).sequences()[len(rows) :]
    assert alone == [laid.sequence(2 * row + 1) for row in range(len(rows))]
    assert laid.kind is Kind.JUDGED
    assert laid.examples() == rows


def test_rows_are_paired_otherwise_for_a_job_that_began_so() -> None:
    rows, held_out = pairs([10, 20]), pairs([30, 40])
    splits = Splits(rows_of(rows, 100), rows_of(held_out, 100))
    before = splits.paired(Pairing.ROW_BEFORE, 100)
    assert before.pairing is Pairing.ROW_BEFORE
    assert before.training.encode() == rows_of(rows, 100, Pairing.ROW_BEFORE).encode() != splits.training.encode()
    assert before.held_out is not None
    assert before.held_out.encode() == rows_of(held_out, 100, Pairing.ROW_BEFORE).encode()
    assert splits.paired(Pairing.OTHER_QUESTION, 100) is splits
