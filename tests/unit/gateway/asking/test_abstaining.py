"""Whether to answer: by what the retriever says, what is left to answer from, and the policy that counts."""

from dataclasses import replace

import pytest

from gateway.answering import Wish
from gateway.asking.abstaining import HEDGE
from gateway.asking.retrieval import Answerability, Found, Policy, Ranking
from gateway.generation import Shape, ShapeKind
from tests.unit.gateway.asking.stock import SOURCES, asking, heard, world

UNANSWERABLE = Answerability(0.2, 0.5, answerable=False)
SHAPED = Wish(model="desk", request_id="r", shape=Shape(ShapeKind.REGEX, ".*"))


async def test_strict_asks_no_model_says_so_and_names_the_nearest(tmp_path):
    place = world(tmp_path, "Nine crowns.")
    place.retriever.found = Found(SOURCES, answerability=UNANSWERABLE)
    answer = await heard(place, asking(abstention=Policy.STRICT))
    assert answer.text == "The answer is not in the sources. The nearest passages: Fares [1]; Fog [2]."
    assert place.generator.requests == []
    assert answer.last.told.abstention.abstained
    assert [citation.span for citation in answer.last.citations] == [source.span for source in SOURCES]
    (receipt,) = place.records.kept
    assert (receipt.version_digest, receipt.usage.prompt_tokens) == ("", 0)
    assert receipt == answer.last.end.receipt


@pytest.mark.parametrize(("stated", "hedged"), [(Policy.UNSPECIFIED, True), (Policy.HEDGE, True), (Policy.OFF, False)])
async def test_what_the_collection_says_counts_where_the_request_does_not(tmp_path, stated, hedged):
    place = world(tmp_path, "Nine crowns [1].")
    place.retriever.found = Found(SOURCES, answerability=replace(UNANSWERABLE, policy=stated))
    answer = await heard(place, asking())
    assert answer.text.endswith("Nine crowns [1].")
    assert answer.text.startswith("The sources may not hold the answer.") is hedged
    (citation,) = answer.last.citations
    assert answer.text[citation.answer_start : citation.answer_end] == "[1]"
    (sentence,) = answer.last.sentences
    assert answer.text[sentence.start : sentence.end] == "Nine crowns [1]."
    off = await heard(place, asking(abstention=Policy.OFF))
    assert off.text == "Nine crowns [1]."


@pytest.mark.parametrize("gone", ["nothing was found", "all was under the least score"])
async def test_with_nothing_to_answer_from_strict_abstains_and_hedge_warns_whatever_the_search_could_tell(
    tmp_path, gone
):
    place = world(tmp_path, "Nine crowns.")
    scope = asking().scope
    if gone == "nothing was found":
        place.retriever.found = Found(())
    else:
        scope = replace(scope, ranking=Ranking(score_threshold=2.0))
    strict = await heard(place, replace(asking(abstention=Policy.STRICT), scope=scope))
    assert strict.text == "The answer is not in the sources."
    assert strict.last.told.abstention.abstained
    assert (strict.first.sources, strict.last.citations, place.generator.requests) == ((), (), [])
    for policy in (Policy.HEDGE, Policy.UNSPECIFIED):
        hedged = await heard(place, replace(asking(abstention=policy), scope=scope))
        assert (hedged.text, hedged.last.told.abstention.hedged) == (f"{HEDGE}Nine crowns.", True)
    off = await heard(place, replace(asking(abstention=Policy.OFF), scope=scope))
    assert (off.text, off.last.fallbacks) == ("Nine crowns.", ())


@pytest.mark.parametrize("policy", list(Policy))
async def test_passages_of_a_search_that_cannot_tell_are_answered_from_and_it_is_told(tmp_path, policy):
    place = world(tmp_path, "Nine crowns [1].")
    place.retriever.found = Found(SOURCES)
    answer = await heard(place, asking(abstention=policy))
    assert (answer.text, answer.first.abstention) == ("Nine crowns [1].", None)
    told = [it for it in answer.last.fallbacks if it.stage == "decide" and "vectors and keywords" in it.reason]
    assert len(told) == len(answer.last.fallbacks) == (policy is not Policy.OFF)


async def test_a_shape_is_neither_filtered_nor_hedged_but_checked(tmp_path):
    place = world(tmp_path, '{"a": "nine crowns [9]"}')
    place.retriever.found = Found(SOURCES, answerability=UNANSWERABLE)
    answer = await heard(place, asking(wish=SHAPED))
    assert answer.text == '{"a": "nine crowns [9]"}'
    assert answer.last.unresolved_markers == (9,)
    refused = await heard(place, asking(wish=SHAPED, abstention=Policy.STRICT))
    assert (refused.text, refused.last.told.abstention.abstained) == ("", True)
