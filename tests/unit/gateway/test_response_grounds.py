"""Responses ask for answers from sources as Ask does, and tell of them what it tells: before their text, at their end, kept."""

from dataclasses import replace
from typing import Any

import pytest

from gateway.asking.question import Path, Release, Unsupported
from gateway.asking.retrieval import Answerability, Found, Policy
from gateway.asking.support import Verdict
from gateway.generation import Sampling, Shape, ShapeKind, Speaker, Tool, ToolUse
from gateway.responses.grounds import Grounds, Manner
from gateway.responses.nouns import (
    Asked,
    FileSearch,
    Item,
    ItemDone,
    Response,
    Search,
    Settings,
    Stage,
    Text,
    Turn,
    Whole,
)
from gateway.responses.responder import Responder
from gateway.responses.wire import of_response, of_settings, to_response, to_settings
from services.chassis.context import serving
from services.chassis.errors import Failure, Reason
from tests.unit.gateway.asking.stock import ASKING, SOURCES, World, world
from tests.unit.gateway.test_response_functions import Chat
from tests.unit.gateway.test_responses import Away, Core, Describing, Shelf, said, told

SEARCHED = FileSearch(("ferry",), most=2)
SHAPED = Shape(ShapeKind.JSON_SCHEMA, "{}")
ALL = Manner(
    abstention=Policy.STRICT,
    path=Path.PASSAGES,
    rewrite=False,
    release=Release.SENTENCE,
    unsupported=Unsupported.WITHHOLD,
    check_support=True,
    as_readers=("staff",),
    explain=True,
    fallbacks=False,
)


def settings(**named: Any) -> Settings:
    return Settings(model="desk", search=SEARCHED, **named)


async def answered(place: World, asked: Settings, *items: Item, shelf: Shelf | None = None) -> list[Any]:
    core: Any = place.asker
    kept: Any = shelf or Shelf()
    responder = Responder(core, core, kept, Describing(), lambda: 1.0, lambda: "0" * 32)
    with serving(replace(ASKING)):
        return [it.event async for it in responder.create(Asked(asked, items or (said("How much is a ticket?"),)))]


def whole(events: list[Any]) -> Response:
    last = events[-1]
    assert isinstance(last, Whole)
    return last.response


async def test_what_is_asked_of_an_answer_reaches_the_question() -> None:
    core = Core("So.")
    await told(core, Shelf(), search=SEARCHED, manner=ALL, fallback="base")
    (asked,) = core.asked
    assert (asked.abstention, asked.path, asked.rewrite) == (Policy.STRICT, Path.PASSAGES, False)
    assert (asked.release, asked.unsupported) == (Release.SENTENCE, Unsupported.WITHHOLD)
    assert (asked.check_support, asked.explain, asked.fallbacks) == (True, True, False)
    assert (asked.scope.as_readers, asked.wish.fallback) == (("staff",), "base")


async def test_what_is_not_said_is_as_ask_has_it() -> None:
    core = Core("So.")
    await told(core, Shelf(), search=SEARCHED)
    (asked,) = core.asked
    assert (asked.rewrite, asked.release, asked.unsupported) == (True, Release.AT_ONCE, Unsupported.MARK)
    assert (asked.abstention, asked.path, asked.fallbacks) == (Policy.UNSPECIFIED, Path.UNSPECIFIED, True)


def test_all_of_it_is_the_same_behind_the_wire() -> None:
    for manner in (ALL, Manner(), Manner(rewrite=True, release=Release.AT_ONCE, unsupported=Unsupported.MARK)):
        wanted = Settings(search=SEARCHED, manner=manner, fallback="none")
        assert of_settings(to_settings(wanted)) == wanted


async def test_sources_that_found_no_room_are_told_before_the_text_and_kept_with_all_that_was_found_out(
    tmp_path,
) -> None:
    place = world(tmp_path, 'A day ticket is 9 crowns [1]. "In fog the boats fly" [7].')
    place.generator.context_tokens = 60
    shelf, wanted = Shelf(), settings(manner=Manner(explain=True), sampling=Sampling(max_tokens=20))
    events = await answered(place, wanted, shelf=shelf)
    assert isinstance(events[0], Whole)
    before = events[0].response.grounds
    assert [it.text for it in before.left_out] == [SOURCES[1].text]
    assert (before.path, before.sentences) == (Path.PASSAGES, ())
    assert before.abstention is not None
    response = whole(events)
    grounds = response.grounds
    assert replace(grounds, sentences=(), quotes=(), unresolved_markers=(), stages=(), prompt_format="") == before
    assert [it.verdict for it in grounds.sentences] == [Verdict.SUPPORTED, Verdict.UNSUPPORTED]
    assert [it.found for it in grounds.quotes] == [False]
    assert (grounds.unresolved_markers, grounds.prompt_format) == ((7,), "numbered-sources-1")
    assert {it.stage for it in grounds.stages} >= {"resolve", "retrieve", "decide", "prompt", "verify"}
    assert shelf.kept[response.response][0] == response
    assert of_response(to_response(response)) == response


async def test_stages_are_told_only_where_they_are_asked_for_and_also_without_sources(tmp_path) -> None:
    place = world(tmp_path, "So.")
    assert whole(await answered(place, settings())).grounds.stages == ()
    plain = whole(await answered(place, Settings(model="desk", manner=Manner(explain=True)))).grounds
    assert [it.stage for it in plain.stages] == ["resolve"]
    assert replace(plain, stages=()) == Grounds()


async def test_a_follow_up_tells_what_became_of_it(tmp_path) -> None:
    place = world(tmp_path, "4 crowns [1].")
    turns = said("How much is a day ticket for an adult?"), said("9 crowns.", Speaker.ASSISTANT), said("And a child?")
    events = await answered(place, settings(manner=Manner(rewrite=False)), *turns)
    rewrite = whole(events).grounds.rewrite
    assert rewrite is not None
    assert (rewrite.question, rewrite.rewritten) == ("And a child?", False)
    assert "rewriting" in rewrite.reason
    assert of_response(to_response(whole(events))) == whole(events)

    place.generator.aside = "How much is a day ticket for a child?"
    response = whole(await answered(place, settings(), *turns))
    assert response.grounds.rewrite is not None
    assert response.grounds.rewrite.rewritten
    # What is told as looked for is what was.
    assert isinstance(response.output[0].content, Search)
    assert response.output[0].content.queries == (response.grounds.rewrite.question,) == (place.generator.aside,)


async def test_an_answer_that_is_not_there_is_refused_in_words_and_with_a_shape_by_a_refusal(tmp_path) -> None:
    place = world(tmp_path, "{}")
    place.retriever.found = Found(SOURCES, answerability=Answerability(0.1, 0.5, answerable=False))
    strict = Manner(abstention=Policy.STRICT)
    in_words = whole(await answered(place, settings(manner=strict)))
    (_, message) = in_words.output
    assert isinstance(message.content, Turn)
    assert not message.content.refused
    assert [it.span.marker for it in message.content.citations] == [1, 2]

    events = await answered(place, settings(manner=strict, shape=SHAPED))
    texts = [event for event in events if isinstance(event, Text)]
    assert {it.refused for it in texts} == {True}
    (_, message) = whole(events).output
    abstention = whole(events).grounds.abstention
    assert abstention is not None
    assert abstention.abstained
    assert message.content == Turn(Speaker.ASSISTANT, (abstention.says,), (), refused=True)
    assert [event.item for event in events if isinstance(event, ItemDone)][-1] == message
    assert of_response(to_response(whole(events))) == whole(events)
    # What comes next begins anew.
    place.retriever.found = Found(SOURCES)
    shaped = whole(await answered(place, settings(shape=SHAPED)))
    assert shaped.output[-1].content == Turn(Speaker.ASSISTANT, ("{}",))


@pytest.mark.parametrize(
    ("said_of_sources", "name"),
    [
        (Manner(abstention=Policy.OFF), "abstention"),
        (Manner(path=Path.PASSAGES), "path"),
        (Manner(rewrite=True), "rewrite"),
        (Manner(release=Release.AT_ONCE), "release"),
        (Manner(unsupported=Unsupported.MARK), "unsupported"),
        (Manner(check_support=True), "check_support"),
        (Manner(as_readers=("staff",)), "as_readers"),
    ],
)
async def test_what_is_said_of_sources_is_refused_where_none_are_looked_for(said_of_sources: Manner, name: str) -> None:
    for functions in (None, ToolUse((Tool("f"),))):
        with pytest.raises(Failure) as refused:
            await told(Chat(), Shelf(), manner=said_of_sources, functions=functions)
        assert (refused.value.reason, refused.value.field) == (Reason.FIELD_INVALID, f"settings.{name}")


async def test_functions_have_no_stages_to_explain_but_a_fallback_or_none() -> None:
    functions = ToolUse((Tool("f"),))
    with pytest.raises(Failure) as refused:
        await told(Chat(), Shelf(), manner=Manner(explain=True), functions=functions)
    assert refused.value.field == "settings.explain"
    for named, fallbacks, wanted in (("", True, ""), ("", False, "none"), ("base", False, "base")):
        chat = Chat()
        await told(chat, Shelf(), manner=Manner(fallbacks=fallbacks), fallback=named, functions=functions)
        assert chat.conversations[0].wish.fallback == wanted


async def test_who_wants_no_replacement_gets_no_answer_that_is_not_kept() -> None:
    shelf = Away()
    with pytest.raises(Failure) as failed:
        await told(Core("So."), shelf, search=SEARCHED, manner=Manner(fallbacks=False))
    assert (failed.value.reason, shelf.attempts) == (Reason.PEER_UNAVAILABLE, 1)
    events = await told(Core("So."), Away(), search=SEARCHED)
    assert events[-1].event.stage is Stage.COMPLETED
