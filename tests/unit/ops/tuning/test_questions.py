"""Which questions are kept aside: always the same, and none that shares a document with what is learned."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ops.tuning.questions import LEAST_HELD_OUT, LEAST_TRAINING, Question, digest, gathered, split
from services.ops.tuning.refusal import Untrainable


def asked(count: int, documents: int) -> tuple[Question, ...]:
    return gathered([(f"question {number}", [f"d{number % documents}.md"]) for number in range(count)])


def test_a_question_that_is_asked_twice_is_answered_by_the_documents_of_both():
    found = gathered([("How  much?", ["a.md"]), ("When?", ["b.md"]), ("How much?", ["c.md", "a.md"])])
    assert found == (Question("How much?", frozenset({"a.md", "c.md"})), Question("When?", frozenset({"b.md"})))


@pytest.mark.parametrize(("pair", "named"), [((" ", ["a.md"]), "question 1"), (("How?", []), r"document.* 'How\?'")])
def test_a_question_without_words_or_documents_is_refused(pair, named):
    with pytest.raises(Untrainable, match=named):
        gathered([pair])


def test_no_document_stands_on_both_sides_even_by_a_chain_of_questions():
    chained = [Question(f"chain {at}", frozenset({f"d{at}.md", f"d{at + 1}.md"})) for at in range(40)]
    parts = split([*asked(200, 70), *(Question(f"far {it.text}", it.documents) for it in asked(90, 30))], 0.3,
                  share_documents=False)  # fmt: skip
    sides = [frozenset().union(*(it.documents for it in side)) for side in (parts.training, parts.held_out)]
    assert not sides[0] & sides[1]
    with pytest.raises(Untrainable, match="--share-documents"):
        split(chained, 0.3, share_documents=False)
    shared = split(chained, 0.3, share_documents=True)
    assert len(shared.training) + len(shared.held_out) == len(chained)


@given(st.integers(0, 10**6), st.booleans())
def test_the_sides_follow_from_the_questions_alone_whatever_their_order(seed, share_documents):
    questions = list(asked(150, 60))
    first = split(questions, 0.3, share_documents=share_documents)
    random.Random(seed).shuffle(questions)
    second = split(questions, 0.3, share_documents=share_documents)
    assert set(first.held_out) == set(second.held_out)
    assert digest(first.held_out) == digest(second.held_out)


@pytest.mark.parametrize("share_documents", [True, False])
def test_a_question_stays_on_its_side_when_others_come(share_documents):
    few = split(asked(100, 100), 0.3, share_documents=share_documents)
    many = split(asked(300, 300), 0.3, share_documents=share_documents)
    assert set(few.held_out) <= set(many.held_out)
    assert set(few.training) <= set(many.training)


def test_about_the_share_that_was_asked_for_is_kept_aside():
    parts = split(asked(1000, 1000), 0.3, share_documents=False)
    assert 250 < len(parts.held_out) < 350


def test_too_few_questions_are_refused_with_what_to_do():
    with pytest.raises(Untrainable, match=rf"\b{LEAST_TRAINING} and {LEAST_HELD_OUT}\b"):
        split(asked(12, 12), 0.3, share_documents=False)


def test_other_questions_or_other_documents_have_another_digest():
    one = gathered([("How?", ["a.md"])])
    assert digest(one) == digest(gathered([("How?", ["a.md"])]))
    assert digest(one) != digest(gathered([("How?", ["b.md"])]))
    assert digest(one) != digest(gathered([("Who?", ["a.md"])]))
