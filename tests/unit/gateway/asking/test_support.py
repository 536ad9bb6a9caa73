"""Whether the sources support a sentence, and who says so."""

from typing import Any

import pytest

from gateway.asking.stages import BudgetSpentError
from gateway.asking.support import Judge, Support, Verdict
from services.chassis.errors import Failure
from tests.unit.gateway.asking.stock import SOURCES, Embedder, source


def support(embedder=None, **named):
    failures: list[Any] = []
    ours = Support(SOURCES, embedder or Embedder(), failures.append, **named)
    return ours, failures


async def judged(text, embedder=None, **named):
    (found,) = await support(embedder, **named)[0].judged([(3, text)])
    return found


async def test_words_decide_where_they_are_clear():
    found = await judged("A child's day ticket is 4 crowns [1].")
    assert (found.verdict, found.judge, found.marker, found.words) == (Verdict.SUPPORTED, Judge.WORDS, 1, 1.0)
    assert (found.start, found.end) == (3, 3 + len("A child's day ticket is 4 crowns [1]."))
    away = await judged("Paris is the capital of France.")
    assert (away.verdict, away.judge, away.marker) == (Verdict.UNSUPPORTED, Judge.WORDS, 0)


async def test_a_number_that_stands_in_no_source_is_never_supported():
    found = await judged("A child's day ticket is 5 crowns [1].", Embedder(near=""))
    assert (found.verdict, found.judge) == (Verdict.UNSUPPORTED, Judge.WORDS)


async def test_a_name_that_stands_in_no_source_is_never_supported():
    near = Embedder(near="")
    found = await judged("In fog the boats sail at half speed to Kolmbrook [2].", near)
    assert (found.verdict, found.judge) == (Verdict.UNSUPPORTED, Judge.WORDS)
    # The first word of a sentence has its capital from that; in German every noun has one.
    for text in ("Kolmbrook boats sail at half speed in fog.", "Boats sail in fog at half speed, nicht Kolmbrook."):
        assert (await judged(text, near)).verdict is Verdict.SUPPORTED


@pytest.mark.parametrize("text", ["Is that all?", "The answer is not in the sources.", "You are so.", "[1]"])
async def test_what_claims_nothing_is_not_judged(text):
    assert (await judged(text)).verdict is Verdict.NO_CLAIM


HALF = "Animals such as dogs travel without paying a crown."


async def test_between_the_vector_decides():
    found = await judged(HALF, Embedder(near="Animals"))
    assert (found.verdict, found.judge, found.similarity) == (Verdict.UNSUPPORTED, Judge.VECTORS, 0.0)
    near = Embedder(near="ogs")
    found = await judged(HALF, near)
    assert (found.verdict, found.judge, found.marker, found.similarity) == (Verdict.SUPPORTED, Judge.VECTORS, 1, 1.0)


async def test_the_sources_are_embedded_once_and_only_for_what_words_leave_open():
    embedder = Embedder(near="ogs")
    ours, _ = support(embedder)
    await ours.judged([(0, "Dogs travel free.")])
    assert embedder.texts == []
    await ours.judged([(0, HALF)])
    once = len(embedder.texts)
    await ours.judged([(0, HALF)])
    assert len(embedder.texts) == once + 1


async def test_without_the_embedder_words_decide_alone_and_that_is_told_once():
    embedder = Embedder()
    embedder.away = True
    ours, failures = support(embedder)
    first = await ours.judged([(0, HALF)])
    await ours.judged([(0, HALF)])
    assert first[0].judge is Judge.WORDS
    assert [failure.variables["service"] for failure in failures] == ["embedder"]


async def test_the_model_is_asked_about_what_is_left_unsupported_and_only_then():
    asked = []

    async def says(sentence, source):
        asked.append((sentence, source.span.marker))
        return "France" in sentence

    ours, _ = support(ask_model=says)
    found = await ours.judged(
        [(0, "Dogs travel free."), (20, "Paris is the capital of France [2]."), (60, "Rome lies in Italy.")]
    )
    assert [it.judge for it in found] == [Judge.WORDS, Judge.MODEL, Judge.MODEL]
    assert [it.verdict for it in found] == [Verdict.SUPPORTED, Verdict.SUPPORTED, Verdict.UNSUPPORTED]
    assert asked[0] == ("Paris is the capital of France .", 2)


def no_failure(failure: Failure | BudgetSpentError) -> None:
    pytest.fail(str(failure))


def nothing_left_out(why: str) -> None:
    pytest.fail(why)


# Thirty sources of ten sentences: more than are embedded for a sentence.
MANY = tuple(source(" ".join(f"Notice {at} of pier {pier} is old." for at in range(10)), pier) for pier in range(1, 30))
LONG = (*MANY, source(f"{MANY[0].text} Boats wait. Whoever brings animals, dogs too, travels with them.", 30))


async def test_of_more_sentences_than_are_compared_those_are_that_share_words_wherever_they_stand():
    embedder = Embedder(near="ogs")
    told: list[str] = []
    ours = Support(LONG, embedder, no_failure, narrowed=told.append)
    (found,) = await ours.judged([(0, HALF)])
    assert (found.verdict, found.judge, found.marker) == (Verdict.SUPPORTED, Judge.VECTORS, 30)
    # The sentence itself, and as many of the sources as are embedded at once: of each source some.
    assert len(embedder.texts) == 1 + 200
    assert {f"Notice 0 of pier {pier} is old." for pier in range(1, 30)} <= set(embedder.texts)
    assert told == ["the sources have 302 sentences, of which at most 200 are compared with one of the answer"]


async def test_what_is_left_out_is_told_once_and_what_was_embedded_is_not_again():
    embedder = Embedder(near="ogs")
    told: list[str] = []
    ours = Support(LONG, embedder, no_failure, narrowed=told.append)
    await ours.judged([(0, HALF), (60, HALF)])
    assert len(embedder.texts) == 2 + 200
    await ours.judged([(0, HALF)])
    assert (len(embedder.texts), len(told)) == (3 + 200, 1)


async def test_several_sentences_have_their_part_of_what_is_embedded_at_once():
    embedder = Embedder()
    ours = Support(LONG, embedder, no_failure)
    await ours.judged([(0, HALF), (60, "Notice 9 of pier 7 lies somewhere behind harbour walls, old and grey.")])
    assert len(embedder.texts) == 2 + 200
    assert {"Whoever brings animals, dogs too, travels with them.", "Notice 9 of pier 7 is old."} <= set(embedder.texts)


@pytest.mark.parametrize(("sources", "text"), [(SOURCES, HALF), (LONG, "Boats wait.")])
async def test_nothing_is_told_where_all_sentences_are_compared_or_none_has_to_be(sources, text):
    embedder = Embedder()
    await Support(sources, embedder, no_failure, narrowed=nothing_left_out).judged([(0, text)])
    assert bool(embedder.texts) is (text == HALF)


async def test_of_passages_without_a_sentence_words_decide_alone():
    named = source(" ", 1, "Animals such as dogs")
    (found,) = await Support([named], Embedder(), no_failure).judged([(0, HALF)])
    assert (found.verdict, found.judge) == (Verdict.UNSUPPORTED, Judge.WORDS)
