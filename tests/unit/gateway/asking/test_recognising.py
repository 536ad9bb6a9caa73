"""Which questions are of a whole collection, or of how many documents there are and which."""

import pytest

from gateway.asking.question import Path
from gateway.asking.recognising import recognise


@pytest.mark.parametrize(
    ("question", "of"),
    [
        ("Summarise the collection.", ""),
        ("Please give me a short overview of all the documents", ""),
        ("What are the main themes across the documents?", ""),
        ("Summarize all documents about fog", "fog"),
        ("What do these documents say about the fares of dogs?", "the fares of dogs"),
        ("What is this collection about?", ""),
    ],
)
def test_a_question_of_everything_goes_to_the_summary(question, of):
    found = recognise(question)
    assert (found.path, found.of) == (Path.SUMMARY, of)


@pytest.mark.parametrize(
    ("question", "of"),
    [
        ("How many documents mention fog?", "fog"),
        ("Which files contain the word “crown”?", "crown"),
        ("List all documents that discuss day tickets", "day tickets"),
        ("How many reports are there about half speed in the collection?", "half speed"),
        ("How many documents are there?", ""),
        ("How many documents are in the collection?", ""),
    ],
)
def test_a_question_of_how_many_or_which_goes_to_the_index(question, of):
    found = recognise(question)
    assert (found.path, found.of) == (Path.INDEX, of)


@pytest.mark.parametrize(
    "question",
    [
        "How much is a day ticket?",
        "How many crowns does a dog pay?",
        "How many pages does the annual report have?",
        "Which form opens a claim?",
        "What do the boats do in fog?",
        "Summarise the rule for fog.",
        "What is the summary of fares?",
        "Which documents do I need to travel?",
        "How many documents must be submitted with an application?",
        "What are the main topics of the safety training?",
    ],
)
def test_every_other_question_is_one_of_passages(question):
    assert recognise(question).path is Path.PASSAGES
