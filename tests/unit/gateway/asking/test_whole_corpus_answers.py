"""Answers to questions of a whole collection: by its summary, by its index, or by passages where that is said or needed."""

from dataclasses import replace

import pytest

from gateway.answering import Wish
from gateway.asking.question import Path
from gateway.asking.retrieval import Answerability, Counted, Policy, Statement
from gateway.generation import Shape, ShapeKind
from services.chassis.errors import Failure, Reason
from tests.unit.gateway.asking.stock import FERRY, SOURCES, asking, heard, world

SHAPED = Wish(model="desk", request_id="r", shape=Shape(ShapeKind.REGEX, ".*"))


async def test_a_question_of_everything_is_answered_by_the_summary(tmp_path):
    place = world(tmp_path, "x")
    answer = await heard(place, asking("Summarise all documents about dogs"))
    assert (answer.text, place.retriever.about) == ("Dogs travel free. [1]", ["dogs"])
    assert (answer.first.path, len(answer.last.citations)) == (Path.SUMMARY, 1)
    assert place.generator.requests == []


async def test_a_question_of_how_many_is_answered_by_the_index(tmp_path):
    answer = await heard(world(tmp_path), asking("How many documents mention fog?"))
    assert answer.text == "2 of the 5 documents of ferry hold the words fog: Fog [1]; Notice."
    assert answer.last.told.path is Path.INDEX
    assert [citation.marker for citation in answer.last.citations] == [1]


FORGED = "Dogs pay 900 crowns [ 2 ] [1,2]"
ROUND = "Dogs pay 900 crowns ( 2 ) (1,2)"


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (asking(path=Path.SUMMARY), f"{ROUND} [1]\nFog. [2]"),
        (
            asking("How many documents mention fog?"),
            f"2 of the 5 documents of ferry hold the words fog: {ROUND} [1]; A (2; 2] B; {ROUND}.",
        ),
        (
            asking(abstention=Policy.STRICT),
            f"The answer is not in the sources. The nearest passages: {ROUND} [1]; {ROUND} [2].",
        ),
    ],
    ids=["summary", "index", "abstention"],
)
async def test_a_marker_in_a_title_or_in_a_sentence_that_an_answer_takes_over_cites_nothing(tmp_path, asked, says):
    place = world(tmp_path)
    place.retriever.statements = (Statement(FORGED, (SOURCES[0],)), Statement("Fog.", (SOURCES[1],)))
    titles = (FORGED, "A [2", "2] B", FORGED)
    place.retriever.counted = Counted("ferry", 2, 5, ("fog",), titles, (SOURCES[0], None, None, None), FERRY.version)
    found = tuple(replace(it, title=FORGED) for it in SOURCES)
    place.retriever.found = replace(
        place.retriever.found, sources=found, answerability=Answerability(0.1, 0.5, answerable=False)
    )
    answer = await heard(place, asked)
    assert answer.text == says
    assert [it.marker for it in answer.last.citations] == [it.span.marker for it in answer.first.sources]
    assert answer.last.unresolved_markers == ()


async def test_the_request_may_name_the_path_itself(tmp_path):
    place = world(tmp_path, "Dogs travel free.")
    answer = await heard(place, asking("How many documents mention fog?", path=Path.PASSAGES))
    assert (answer.first.path, answer.text) == (Path.PASSAGES, "Dogs travel free.")
    assert (await heard(place, asking("Dogs", path=Path.SUMMARY))).first.path is Path.SUMMARY
    assert place.retriever.about == ["Dogs"]
    with pytest.raises(Failure) as refused:
        await heard(place, asking(wish=SHAPED, path=Path.INDEX))
    assert refused.value.field == "path"


async def test_a_summary_that_cannot_be_made_is_an_answer_from_passages_and_told(tmp_path):
    place = world(tmp_path, "Dogs travel free.")
    place.retriever.fails = Failure(Reason.GENERATOR_NOT_SET, what="a summary")
    with pytest.raises(Failure):
        await heard(place, asking("Summarise all documents", fallbacks=False))
    summary = place.retriever.summarize

    async def once(*arguments, **named):
        try:
            return await summary(*arguments, **named)
        finally:
            place.retriever.fails = None

    place.retriever.summarize = once
    answer = await heard(place, asking("Summarise all documents"))
    assert answer.first.path is Path.PASSAGES
    assert [it.stage for it in answer.last.fallbacks] == ["summary"]
