"""A question that earlier turns complete, and what a rewriting must be to be kept."""

import pytest

from gateway.asking.rewriting import asked, checked, reason_to
from gateway.generation import Message, Speaker

HISTORY = (
    Message(Speaker.SYSTEM, "Be brief."),
    Message(Speaker.USER, "How much is a day ticket of the ferry?"),
    Message(Speaker.ASSISTANT, "An adult pays nine crowns."),
)


@pytest.mark.parametrize(
    "question",
    [
        "And for a child?",
        "What about dogs?",
        "Is it valid on Sundays?",
        "How much do they pay?",
        "Why?",
        "For children?",
    ],
)
def test_a_question_that_leans_on_earlier_turns_is_known(question):
    assert reason_to(question, HISTORY)
    assert not reason_to(question, HISTORY[:1])


@pytest.mark.parametrize(
    "question",
    [
        "How much is a bicycle on the ferry?",
        "Does the ferry carry dogs, and do they pay?",
        "What is the capital of France?",
        "When do boats leave Osier Island on Sundays?",
    ],
)
def test_a_question_that_stands_alone_is_left_as_it_is(question):
    assert not reason_to(question, HISTORY)


def test_a_rewriting_of_the_conversations_own_words_is_kept():
    found = checked(
        "How much is a day ticket of the ferry for a child?\n", "And for a child?", HISTORY[:0] + HISTORY, "why"
    )
    assert (found.rewritten, found.question) == (True, "How much is a day ticket of the ferry for a child?")


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("", "not one question"),
        ("How much is it?\nNine crowns.", "not one question"),
        ("How much is a day ticket?", "loses 1"),
        ("How much is a Paris ticket for a child?", "adds 1"),
        ("and for a  CHILD?", "changes nothing"),
    ],
)
def test_a_rewriting_that_asks_something_else_is_not(said, problem):
    found = checked(said, "And for a child?", HISTORY, "it goes on")
    assert (found.rewritten, found.question) == (False, "And for a child?")
    assert problem in found.reason


def test_the_base_is_told_the_turns_and_not_the_instructions():
    assert "Be brief" not in asked("Why?", HISTORY)
    assert asked("Why?", HISTORY).endswith("Last question: Why?\nRewritten question:")
