"""An answer's stages in their order, over peers that do what they are told."""

import asyncio
from dataclasses import replace

import pytest

from gateway.answering import Wish
from gateway.asking.question import Path, Release, Unsupported
from gateway.asking.retrieval import Answerability, Policy, Ranking, Scope
from gateway.asking.stages import BUDGETS, Share
from gateway.asking.support import Verdict
from gateway.generation import Message, Sampling, Shape, ShapeKind, Speaker, Usage
from services.chassis.context import serving
from services.chassis.errors import Failure, Reason
from tests.harness.clock import ManualClock
from tests.harness.timeouts import HANG_SECONDS
from tests.harness.wording import missing
from tests.unit.gateway.asking.stock import ASKING, FERRY, SOURCES, VERSION, asking, heard, world

HISTORY = (Message(Speaker.USER, "How much is a day ticket?"), Message(Speaker.ASSISTANT, "Nine crowns."))
SHAPED = Wish(model="desk", request_id="r", shape=Shape(ShapeKind.REGEX, ".*"))


async def test_sources_come_first_and_the_end_tells_every_stage(tmp_path):
    place = world(tmp_path, "An adult's day ticket", " is 9 crowns [1]", " and [7].")
    answer = await heard(place, asking(explain=True))
    assert answer.first.sources == SOURCES
    assert answer.text == "An adult's day ticket is 9 crowns [1] and."
    last = answer.last
    assert [citation.marker for citation in last.citations] == [1]
    assert last.unresolved_markers == (7,)
    assert [it.verdict for it in last.sentences] == [Verdict.SUPPORTED]
    assert [it.stage for it in last.stages] == ["resolve", "retrieve", "decide", "prompt", "verify"]
    assert place.spans == ["resolve", "retrieve", "decide", "prompt", "verify"]
    assert all(it.budget_seconds for it in last.stages if it.stage in ("resolve", "retrieve", "verify"))
    assert (last.told.path, last.prompt_format) == (Path.PASSAGES, "numbered-sources-1")
    assert last.fallbacks == ()


@pytest.mark.parametrize(
    "asked",
    [
        asking(),
        asking(path=Path.SUMMARY),
        asking(path=Path.INDEX),
        asking(abstention=Policy.STRICT),
    ],
    ids=["passages", "summary", "index", "abstention"],
)
async def test_a_receipt_names_the_version_of_the_collection_whatever_the_answer_is_made_of(tmp_path, asked):
    place = world(tmp_path, "A ticket is 9 crowns [1].")
    if asked.abstention is Policy.STRICT:
        place.retriever.found = replace(place.retriever.found, answerability=Answerability(0.1, 0.5, answerable=False))
    last = (await heard(place, asked)).last
    assert last.end.receipt.collections == (FERRY,)
    assert place.records.kept == [last.end.receipt]


async def test_an_answer_without_retrieval_names_no_collection(tmp_path):
    last = (await heard(world(tmp_path, "9 crowns."), replace(asking(), scope=Scope()))).last
    assert last.end.receipt.collections == ()


async def test_stages_are_told_only_where_they_are_asked_for(tmp_path):
    assert (await heard(world(tmp_path, "x"), asking())).last.stages == ()


async def test_the_version_loads_and_passages_are_looked_for_at_once(tmp_path):
    place = world(tmp_path, "Dogs travel free.")
    place.registry.waits = asyncio.Event()
    with serving(ASKING):
        task = asyncio.create_task(heard(place, asking()))
        await place.retriever.heard.wait()
    assert not task.done()
    # What it loads is not waited for by anything but the generation itself.
    place.generator.before_it_is_ready = asyncio.Event()
    place.registry.waits.set()
    await task
    assert place.generator.prepared == [VERSION]


async def test_a_name_that_means_nothing_is_refused_as_it_is(tmp_path):
    place = world(tmp_path)
    place.registry.fails = Failure(Reason.MODEL_NOT_FOUND, name="desk", nearest="")
    with pytest.raises(Failure) as refused:
        await heard(place, asking())
    assert refused.value.reason is Reason.MODEL_NOT_FOUND


@pytest.mark.parametrize("how", ["slow", "away"])
async def test_a_search_that_does_not_come_is_made_anew_for_keywords_and_told(tmp_path, monkeypatch, how):
    place = world(tmp_path, "Dogs travel free.")
    if how == "slow":
        place.retriever.slow = True
        monkeypatch.setitem(BUDGETS, "retrieve", Share(0.1, 0.02))
    else:
        place.retriever.fails = Failure(Reason.PEER_UNAVAILABLE, service="embedder")
    last = (await heard(place, asking())).last
    assert [shallow for _, shallow in place.retriever.asked] == [False, True]
    (fallback,) = last.fallbacks
    assert (fallback.stage, fallback.instead) == ("retrieve", "passages by their keywords alone")
    assert fallback.reason
    with pytest.raises(Failure) as refused:
        await heard(place, asking(fallbacks=False))
    assert refused.value.reason is (Reason.DEADLINE_EXCEEDED if how == "slow" else Reason.PEER_UNAVAILABLE)


async def test_without_the_retriever_nothing_is_tried_again(tmp_path):
    place = world(tmp_path)
    place.retriever.fails = Failure(Reason.PEER_UNAVAILABLE, service="retriever")
    with pytest.raises(Failure):
        await heard(place, asking())
    assert len(place.retriever.asked) == 1


async def test_a_reranker_that_was_left_out_is_told(tmp_path):
    place = world(tmp_path, "Dogs travel free.")
    place.retriever.found = replace(place.retriever.found, unranked="no time")
    (fallback,) = (await heard(place, asking())).last.fallbacks
    assert (fallback.stage, fallback.reason) == ("rerank", "no time")


async def test_a_least_score_leaves_passages_out_and_none_leaves_all_in(tmp_path):
    place = world(tmp_path, "Dogs travel free.")
    place.retriever.found = replace(place.retriever.found, sources=(SOURCES[0], replace(SOURCES[1], score=-0.5)))
    assert len((await heard(place, asking())).first.sources) == 2
    scope = replace(asking().scope, ranking=Ranking(score_threshold=0.5))
    assert [it.title for it in (await heard(place, replace(asking(), scope=scope))).first.sources] == ["Fares"]


async def test_what_finds_no_room_in_the_prompt_is_told_under_no_number(tmp_path):
    place = world(tmp_path, "Nine crowns [1], says [2].")
    place.generator.context_tokens = 60
    wish = replace(asking().wish, sampling=Sampling(max_tokens=20))
    answer = await heard(place, asking(wish=wish, explain=True))
    assert (answer.first.sources, answer.last.told.left_out) == (SOURCES[:1], answer.first.left_out)
    (gone,) = answer.first.left_out
    assert (gone.title, gone.text, gone.span.marker) == ("Fog", SOURCES[1].text, 0)
    assert SOURCES[1].text not in place.generator.requests[-1].prompt[-1].content
    # Nothing can cite it.
    assert (answer.text, answer.last.unresolved_markers) == ("Nine crowns [1], says.", (2,))
    assert [it.decision for it in answer.last.stages if it.stage == "prompt"] == ["1 sources of 2, numbered-sources-1"]
    place.generator.context_tokens = 1000
    assert (await heard(place, asking())).first.left_out == ()


async def test_a_sentence_leaves_when_it_is_checked_and_not_before(tmp_path):
    place = world(tmp_path, "Dogs travel", " free [1]. Paris", " is in France", ". Fog slows", " boats [2].")
    answer = await heard(place, asking(release=Release.SENTENCE))
    assert answer.pieces == ("Dogs travel free [1]. ", "Paris is in France. ", "Fog slows boats [2].")
    withheld = await heard(place, asking(release=Release.SENTENCE, unsupported=Unsupported.WITHHOLD))
    assert "Paris" not in withheld.text
    gone = [it for it in withheld.last.sentences if it.withheld]
    assert "Paris is in France." in [it.text for it in gone]
    for citation in withheld.last.citations:
        assert withheld.text[citation.answer_start : citation.answer_end] == f"[{citation.marker}]"
    for it in withheld.last.sentences:
        assert withheld.text[it.start : it.end].endswith("" if it.withheld else ".")


OPEN = "Animals such as dogs travel without paying a crown. "


@pytest.mark.parametrize("release", Release)
async def test_sentences_wait_no_longer_for_their_check_than_its_stage_may_take(tmp_path, monkeypatch, release):
    place = world(tmp_path, OPEN, OPEN, "Dogs travel free.")
    place.embedder.answers = False
    monkeypatch.setitem(BUDGETS, "verify", Share(0.5, 0.05))
    answer = await heard(place, asking(release=release, explain=True))
    assert answer.text == f"{OPEN}{OPEN}Dogs travel free."
    (told,) = answer.last.fallbacks
    assert told.stage == "verify"
    assert not missing(told.instead, "words")
    assert not missing(told.reason, "0.05 s")
    assert [it.verdict for it in answer.last.sentences] == [Verdict.UNSUPPORTED, Verdict.UNSUPPORTED, Verdict.SUPPORTED]
    assert [it.budget_seconds for it in answer.last.stages if it.stage == "verify"] == [0.05]
    with pytest.raises(Failure) as late:
        await heard(place, asking(release=release, fallbacks=False))
    assert late.value.reason is Reason.DEADLINE_EXCEEDED


@pytest.mark.parametrize(("release", "spans"), [(Release.AT_ONCE, 1), (Release.SENTENCE, 4)])
async def test_the_check_of_sentences_is_timed_whenever_they_leave(tmp_path, release, spans):
    clock = ManualClock()
    place = world(tmp_path, OPEN, OPEN, "Dogs travel free.", clock=clock)
    embed = place.embedder.embed

    async def slowly(texts):
        clock.advance(len(texts))
        return await embed(texts)

    place.embedder.embed = slowly  # type: ignore[method-assign]  # it takes its time
    last = (await heard(place, asking(release=release, explain=True))).last
    # Four sentences of the sources, and two of the answer that words leave open.
    assert [(it.input_size, it.seconds) for it in last.stages if it.stage == "verify"] == [(3, 6.0)]
    assert [(it.input_size, it.seconds) for it in last.end.timings if it.stage == "verify"] == [(3, 6.0)]
    assert place.spans.count("verify") == spans


async def test_what_has_left_cannot_be_withheld(tmp_path):
    for question in (
        asking(unsupported=Unsupported.WITHHOLD),
        asking(wish=SHAPED, release=Release.SENTENCE, unsupported=Unsupported.WITHHOLD),
    ):
        with pytest.raises(Failure) as refused:
            await heard(world(tmp_path), question)
        assert (refused.value.reason, refused.value.field) == (Reason.FIELD_INVALID, "unsupported")


async def test_a_question_that_leans_on_earlier_turns_is_looked_for_as_it_was_made_whole(tmp_path):
    place = world(tmp_path, "Four crowns.")
    place.generator.aside = "How much is a day ticket for a child?"
    answer = await heard(place, asking("And for a child?", history=HISTORY))
    assert answer.first.rewrite.rewritten
    assert place.retriever.asked == [("How much is a day ticket for a child?", False)]
    asked = place.generator.requests[-1].prompt[-1].content
    assert asked.endswith("Question: How much is a day ticket for a child?")
    # The rewriting is a generation of its own, of the base, and accounted for.
    assert place.generator.requests[0].version == ""
    assert place.records.kept[0].request_id.rpartition("~")[2] == "rewrite"


AUTO = Wish(model="auto", request_id="r")


async def test_auto_goes_by_the_question_that_was_made_whole(tmp_path):
    place = world(tmp_path, "Four crowns.")
    whole = "How much is a day ticket for a child ?"
    place.generator.aside = whole
    answer = await heard(place, asking("And for one?", history=HISTORY, wish=AUTO, explain=True))
    assert answer.first.rewrite.rewritten is False
    assert place.chooser.asked == ["And for one?"]
    answer = await heard(place, asking("And for a child?", history=HISTORY, wish=AUTO, explain=True))
    assert (answer.first.rewrite.question, place.chooser.asked[1:]) == (whole, [whole])
    receipt = answer.last.end.receipt
    assert (receipt.requested_model, receipt.resolved_model) == ("auto", f"families@{VERSION}")
    assert [it.stage for it in answer.last.stages][:2] == ["rewrite", "resolve"]
    # It is made whole once, for both.
    assert [request.request_id for request in place.generator.requests].count("r~rewrite") == 2
    await heard(place, asking("And for a child?", history=HISTORY, wish=AUTO, rewrite=False))
    assert place.chooser.asked[2:] == ["And for a child?"]


async def test_what_needs_no_whole_question_is_resolved_beside_the_rest(tmp_path):
    place = world(tmp_path, "Four crowns.")
    place.generator.aside = None
    place.chooser.waits = asyncio.Event()
    named = asyncio.create_task(heard(place, asking("And for a child?", history=HISTORY)))
    meant = asyncio.create_task(heard(place, asking(history=HISTORY, wish=AUTO)))
    async with asyncio.timeout(HANG_SECONDS):
        # While one waits for its rewriting, and the other for what its model is.
        await asyncio.gather(place.registry.heard.wait(), place.retriever.heard.wait())
    assert not named.done()
    assert not meant.done()
    for task in (named, meant):
        task.cancel()
    await asyncio.gather(named, meant, return_exceptions=True)


async def test_a_rewriting_that_is_late_or_worthless_leaves_the_question_and_is_told(tmp_path, monkeypatch):
    place = world(tmp_path, "Four crowns.")
    place.generator.aside = "Who was the first king of France?"
    answer = await heard(place, asking("And for a child?", history=HISTORY))
    assert (answer.first.rewrite.rewritten, answer.first.rewrite.question) == (False, "And for a child?")
    place.generator.aside = None
    monkeypatch.setitem(BUDGETS, "rewrite", Share(0.1, 0.02))
    last = (await heard(place, asking("And for a child?", history=HISTORY))).last
    assert [it.stage for it in last.fallbacks] == ["rewrite"]
    assert (await heard(place, asking("And for a child?", history=HISTORY, rewrite=False))).last.fallbacks == ()


async def test_a_version_is_asked_in_the_shape_that_it_was_trained_on(tmp_path):
    place = world(tmp_path, "Dogs travel free.")
    place.registry.prompt_format = "documents-1"
    last = (await heard(place, asking())).last
    assert last.prompt_format == "documents-1"
    assert place.generator.requests[-1].prompt[-1].content.startswith("<document>[1] (Fares) ")
    place.registry.prompt_format = "somebody-elses-2"
    last = (await heard(place, asking())).last
    assert last.prompt_format == "numbered-sources-1"
    assert "somebody-elses-2" in last.fallbacks[0].reason


@pytest.mark.parametrize("where", ["its prompt is counted", "it answers"])
async def test_a_version_that_cannot_serve_is_left_for_its_fallback_and_that_is_told(tmp_path, where):
    place = world(tmp_path, "Dogs travel free [1].")
    refused = Failure(Reason.WEIGHTS_REFUSED, field="version", problem="a tensor is missing")
    if where == "it answers":
        place.generator.refuses = refused
    else:
        place.generator.cannot_count = refused
    with pytest.raises(Failure):
        await heard(place, asking())
    place.registry.fallback, place.registry.prompt_format = "base", "documents-1"
    answer = await heard(place, asking())
    assert (answer.text, [it.marker for it in answer.last.citations]) == ("Dogs travel free [1].", [1])
    (told,) = answer.last.fallbacks
    assert (told.stage, told.instead, "a tensor is missing" in told.reason) == ("route", "base", True)
    receipt = answer.last.end.receipt
    assert (receipt.requested_model, receipt.resolved_model, receipt.version_digest) == ("desk", "base", "")
    assert receipt == place.records.kept[-1]
    # What was counted is the prompt of the model that answers, where that was known by then.
    assert answer.last.prompt_format == ("documents-1" if where == "it answers" else "numbered-sources-1")


async def test_without_replacements_the_owners_fallback_does_not_answer_and_the_requests_own_does(tmp_path):
    place = world(tmp_path, "Dogs travel free.")
    place.generator.refuses = Failure(Reason.WEIGHTS_REFUSED, field="version", problem="a tensor is missing")
    place.registry.fallback = "base"
    with pytest.raises(Failure) as refused:
        await heard(place, asking(fallbacks=False))
    assert refused.value.reason is Reason.WEIGHTS_REFUSED
    named = Wish(model="desk", request_id="r", fallback="base")
    answer = await heard(place, asking(fallbacks=False, wish=named))
    assert [it.instead for it in answer.last.fallbacks] == ["base"]


async def test_the_embedder_may_be_away_and_that_is_told(tmp_path):
    place = world(tmp_path, "Animals such as dogs travel without paying a crown.")
    place.embedder.away = True
    last = (await heard(place, asking())).last
    assert [(it.stage, it.instead) for it in last.fallbacks] == [("verify", "the words of each sentence alone")]


async def test_sentences_of_sources_that_none_of_the_answers_was_compared_with_are_told_and_fail_nothing(tmp_path):
    place = world(tmp_path, "Animals such as dogs travel without paying a crown.")
    many = replace(SOURCES[0], text=f"{'Notices are old. ' * 300}{SOURCES[0].text}")
    place.retriever.found = replace(place.retriever.found, sources=(many, SOURCES[1]))
    (told,) = (await heard(place, asking(fallbacks=False))).last.fallbacks
    assert (told.stage, told.instead) == (
        "verify",
        "those sentences of the sources that share most words with one of the answer",
    )
    assert not missing(told.reason, "304", "200")


@pytest.mark.parametrize("how", ["its caller leaves", "it fails"])
async def test_what_an_answer_used_is_accounted_for_when_its_check_does_not_end(tmp_path, how):
    place = world(tmp_path, "Animals such as dogs travel without paying a crown.")
    if how == "it fails":
        place.embedder.away = True
        with pytest.raises(Failure):
            await heard(place, asking(fallbacks=False))
    else:
        place.embedder.answers = False
        listening = asyncio.create_task(heard(place, asking()))
        await place.embedder.heard.wait()
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
    (receipt,) = place.records.kept
    assert (receipt.version_digest, receipt.usage) == (VERSION, Usage(7, 3))


@pytest.mark.parametrize(
    ("release", "pieces", "tokens"),
    [
        (Release.SENTENCE, ("Dogs travel", " free"), []),
        (Release.SENTENCE, ("Dogs travel free. ", "Cats"), [2]),
        (Release.AT_ONCE, ("Dogs travel", " free"), [2]),
    ],
)
async def test_what_an_answer_used_that_broke_off_counts_where_a_part_of_it_left(tmp_path, release, pieces, tokens):
    place = world(tmp_path, *pieces)
    place.generator.dies = Failure(Reason.PEER_UNAVAILABLE, service="generator")
    with pytest.raises(Failure):
        await heard(place, asking(release=release))
    assert [receipt.usage.completion_tokens for receipt in place.records.left] == tokens


async def test_the_base_is_asked_what_words_and_vectors_leave_unsupported(tmp_path):
    place = world(tmp_path, "Paris is in France [1].")
    place.generator.aside = "yes"
    last = (await heard(place, asking(check_support=True))).last
    assert [it.verdict for it in last.sentences] == [Verdict.SUPPORTED]
    assert place.generator.requests[-1].shape.choices == ("yes", "no")


async def test_without_collections_nothing_is_held_back(tmp_path):
    place = world(tmp_path, "a[0] is ", '"not in any source at all"')
    question = replace(asking(), scope=replace(asking().scope, collections=()))
    answer = await heard(place, question)
    assert answer.text == 'a[0] is "not in any source at all"'
    assert (answer.last.citations, answer.last.sentences) == ((), ())
