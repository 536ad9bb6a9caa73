import json
import uuid
from typing import Any

import pytest

from gateway.asking.citations import verify
from gateway.asking.question import Answer, Sources
from gateway.asking.retrieval import Source
from gateway.generation import (
    FinishReason,
    Generated,
    Receipt,
    SourceSpan,
    Speaker,
    TextDelta,
    Tool,
    ToolUse,
    Usage,
)
from gateway.http.responses import rendering
from gateway.http.responses.answers import ResponseShown
from gateway.responses.nouns import (
    Asked,
    Cited,
    FileSearch,
    Item,
    ItemBegun,
    ItemDone,
    Listing,
    Phase,
    Search,
    Searching,
    Settings,
    Stage,
    Status,
    Text,
    TextStage,
    ToolChoice,
    Turn,
    Whole,
)
from gateway.responses.responder import Responder
from gateway.responses.wire import to_response
from gateway.vector_stores.nouns import FileStatus, StoredFile
from services.chassis.errors import Failure, Reason

SPAN = SourceSpan("vs", "file-1", "v", 0, 7, "c", 1)
SOURCE = Source(SPAN, "fares.md", (), "9 crown", 0.9)
USAGE = Usage(10, 3)


class Core:
    """Answers each question with the same words; remembers what it was asked."""

    def __init__(self, *words, sources=(SOURCE,), finish=FinishReason.STOP, fails_after=None, fails_with=None):
        self.words, self.sources, self.finish = words, sources, finish
        self.fails_after, self.fails_with = fails_after, fails_with
        self.asked = []

    async def ask(self, question):
        self.asked.append(question)
        if self.fails_after is None and self.fails_with:
            raise self.fails_with
        told = Sources(self.sources if question.scope.collections else ())
        yield told
        for place, word in enumerate(self.words):
            if place == self.fails_after:
                raise self.fails_with
            yield TextDelta(word)
        receipt = Receipt(question.wish.request_id, sources=(SPAN,), usage=USAGE)
        end = Generated(self.finish, USAGE, (), receipt)
        verified = verify("".join(self.words), receipt.sources)
        yield Answer(end, verified.citations, verified.unresolved_markers, told)


class Shelf:
    """Keeps responses in memory."""

    def __init__(self):
        self.kept = {}

    async def keep(self, response, asked):
        if response.response in self.kept:
            raise Failure(Reason.RESPONSE_EXISTS, name=response.response)
        self.kept[response.response] = response, asked

    async def remove(self, response):
        del self.kept[response]

    async def response(self, response):
        if response not in self.kept:
            raise Failure(Reason.RESPONSE_NOT_FOUND, name=response)
        return self.kept[response][0]

    async def conversation(self, newest):
        response = await self.response(newest)
        before = await self.conversation(response.settings.previous) if response.settings.previous else []
        return [*before, *self.kept[newest][1], *response.output]

    async def input_items(self, response, listing: Listing):
        return list(self.kept[response][1]), False


class Away(Shelf):
    """Cannot keep anything now."""

    def __init__(self, reason=Reason.PEER_UNAVAILABLE, **named):
        super().__init__()
        self.failure = Failure(reason, **(named or {"service": "files"}))
        self.attempts = 0

    async def keep(self, response, asked):
        self.attempts += 1
        raise self.failure


class Describing:
    """Every document has the same attributes."""

    async def document(self, collection, document):
        return StoredFile(document, collection, "fares.md", 0.0, FileStatus.COMPLETED, "", 7, {"year": 2026})


def said(text, speaker=Speaker.USER):
    return Item("", Turn(speaker, (text,)))


def responder(core, shelf):
    return Responder(core, core, shelf, Describing(), lambda: 1000.0, lambda: str(uuid.uuid4()))


async def told(core, shelf, *items, **settings):
    asked = Asked(Settings(**settings), items or (said("How much?"),), include_results=True)
    return [event async for event in responder(core, shelf).create(asked)]


async def listened(events, heard):
    async for event in events:
        heard += [event.event]


SEARCHED = FileSearch(("vs",), most=1)


async def test_the_events_come_in_their_order_and_number_and_the_last_holds_the_whole():
    shelf = Shelf()
    events = await told(Core("It is ", "9 [1]."), shelf, search=SEARCHED)
    assert [it.number for it in events] == list(range(len(events)))
    match [it.event for it in events]:
        case [
            Whole(Stage.CREATED),
            Whole(Stage.IN_PROGRESS),
            ItemBegun(0, Item(content=Search(results=()))),
            Searching(0, _, Phase.IN_PROGRESS),
            Searching(0, _, Phase.SEARCHING),
            Searching(0, _, Phase.COMPLETED),
            ItemDone(0, Item(content=Search(("How much?",), (result,)))),
            ItemBegun(1, Item(content=Turn(Speaker.ASSISTANT, ()))),
            Text(TextStage.BEGUN, 1),
            Text(TextStage.DELTA, 1, _, "It is "),
            Text(TextStage.DELTA, 1, _, "9 [1]."),
            Cited(1, _, 0, citation),
            Text(TextStage.DONE, 1, _, "It is 9 [1]."),
            Text(TextStage.WHOLE, 1, _, "It is 9 [1].", (same,)),
            ItemDone(1, Item(content=Turn(Speaker.ASSISTANT, ("It is 9 [1].",), (_,)))),
            Whole(Stage.COMPLETED, response),
        ]:
            pass
        case other:
            pytest.fail(f"other events: {other}")
    assert (citation.file, citation.filename, citation.start, citation.end, citation.span) == (
        "file-1",
        "fares.md",
        8,
        11,
        SPAN,
    )
    assert same == citation
    assert (result.filename, result.attributes) == ("fares.md", {"year": 2026})
    assert (response.status, response.usage, len(response.output)) == (Status.COMPLETED, USAGE, 2)
    assert shelf.kept[response.response][0] == response
    assert response.receipt is not None
    assert response.response == f"resp_{response.receipt.request_id.replace('-', '')}"


async def test_nothing_is_looked_for_without_stores_or_against_the_callers_choice():
    for settings in ({}, {"search": SEARCHED, "tool_choice": ToolChoice.NONE}):
        core = Core("Yes.")
        events = await told(core, Shelf(), **settings)
        assert core.asked[0].scope.collections == ()
        assert not any(isinstance(it.event, Searching) for it in events)
    for functions in (None, ToolUse((Tool("f"),))):
        with pytest.raises(Failure) as refused:
            await told(Core("Yes."), Shelf(), tool_choice=ToolChoice.REQUIRED, functions=functions)
        assert refused.value.variables["field"] == "settings.tool_choice"


async def test_an_answer_that_was_cut_off_is_incomplete():
    events = await told(Core("It", finish=FinishReason.LENGTH), Shelf())
    assert events[-1].event.stage is Stage.INCOMPLETE
    assert events[-1].event.response.status is Status.INCOMPLETE


async def test_a_failure_in_the_middle_is_told_and_then_raised_and_one_before_it_only_raised():
    failure = Failure(Reason.PEER_UNAVAILABLE, service="generator")
    heard: list[Any] = []
    shelf = Shelf()
    asked = Asked(Settings(), (said("How much?"),))
    with pytest.raises(Failure):
        await listened(responder(Core("a", "b", fails_after=1, fails_with=failure), shelf).create(asked), heard)
    assert heard[-1].stage is Stage.FAILED
    assert heard[-1].response.error.reason == "PEER_UNAVAILABLE"
    assert [kept.status for kept, _ in shelf.kept.values()] == [Status.FAILED]
    with pytest.raises(Failure):
        await anext(responder(Core(fails_with=failure), shelf).create(asked))


async def test_a_conversation_goes_on_with_what_was_asked_and_answered_and_with_no_instructions_of_before():
    shelf, core = Shelf(), Core("Nine.")
    first = (await told(core, shelf, said("How much?"), instructions="Be brief."))[-1].event.response
    second = (await told(core, shelf, said("And a child?"), previous=first.response))[-1].event.response
    await told(core, shelf, said("Dogs?"), previous=second.response)
    last = core.asked[-1]
    assert [(turn.speaker, turn.content) for turn in last.history] == [
        (Speaker.USER, "How much?"),
        (Speaker.ASSISTANT, "Nine."),
        (Speaker.USER, "And a child?"),
        (Speaker.ASSISTANT, "Nine."),
    ]
    assert (last.text, last.instructions) == ("Dogs?", "")
    with pytest.raises(Failure) as missing:
        await told(core, shelf, previous="resp_never")
    assert missing.value.reason is Reason.RESPONSE_NOT_FOUND


async def test_a_response_that_is_not_to_be_kept_is_not():
    shelf = Shelf()
    await told(Core("Yes."), shelf, store=False)
    assert shelf.kept == {}


async def test_the_users_turn_is_last_and_searches_that_are_sent_back_say_nothing():
    core = Core("Yes.")
    sent_back = Item("fs_1", Search(("before",)))
    await told(core, Shelf(), said("Hello"), sent_back, said("Hi", Speaker.ASSISTANT), said("How much?"))
    assert [turn.content for turn in core.asked[0].history] == ["Hello", "Hi"]
    for items in ((said("Hi", Speaker.ASSISTANT),), (sent_back,)):
        with pytest.raises(Failure) as refused:
            await told(core, Shelf(), *items)
        assert refused.value.variables["field"] == "input"


ID = "01890000-0000-7000-8000-000000000000"


async def answered(core, shelf, text="How much?", **settings):
    asked = Asked(Settings(**settings), (said(text),), ID)
    return [event.event async for event in responder(core, shelf).create(asked)][-1]


async def test_a_request_that_comes_again_is_answered_with_what_was_kept_first():
    shelf = Shelf()
    first = await answered(Core("Nine."), shelf)
    assert await answered(Core("Ten."), shelf) == first
    for changed in ({"text": "Dogs?"}, {"instructions": "Be brief."}):
        with pytest.raises(Failure) as refused:
            await answered(Core("Ten."), shelf, **changed)
        assert refused.value.reason is Reason.REQUEST_ID_REUSED
    assert shelf.kept[first.response.response][0] == first.response


@pytest.mark.parametrize(
    "shelf",
    [
        Away(),
        Away(Reason.DEADLINE_EXCEEDED),
        Away(Reason.DISK_FULL, what="responses"),
        Away(Reason.INTERNAL, correlation_id="c"),
    ],
    ids=["away", "late", "full", "at fault"],
)
async def test_an_answer_that_cannot_be_kept_now_is_given_all_the_same_and_says_so(shelf):
    shelf.attempts = 0
    *before, last = await told(Core("It is ", "9 [1]."), shelf, search=SEARCHED)
    response = last.event.response
    assert (last.event.stage, response.status, response.usage) == (Stage.COMPLETED, Status.COMPLETED, USAGE)
    assert [(it.stage, shelf.failure.sentence in it.reason) for it in response.fallbacks] == [("store", True)]
    assert before[0].event.response.settings.store
    assert not response.settings.store
    assert shelf.attempts == 1
    shown = rendering.response(to_response(response), results=False)
    assert (shown["store"], shown["trivium"]["fallbacks"][0]["stage"]) == (False, "store")
    ResponseShown.model_validate_json(json.dumps(shown))


async def test_one_that_was_cut_off_and_cannot_be_kept_is_incomplete_all_the_same():
    last = (await told(Core("It", finish=FinishReason.LENGTH), Away()))[-1].event
    assert (last.stage, [it.stage for it in last.response.fallbacks]) == (Stage.INCOMPLETE, ["store"])


async def test_what_is_said_of_the_response_itself_fails_it_and_it_is_not_tried_to_be_kept_again():
    shelf = Away(Reason.RESPONSE_NOT_FOUND, name="resp_gone")
    heard: list[Any] = []
    with pytest.raises(Failure) as refused:
        await listened(responder(Core("Nine."), shelf).create(Asked(Settings(), (said("How much?"),))), heard)
    assert refused.value.reason is Reason.RESPONSE_NOT_FOUND
    assert (heard[-1].stage, shelf.attempts) == (Stage.FAILED, 1)


async def test_a_request_that_failed_may_come_again():
    shelf = Shelf()
    with pytest.raises(Failure):
        await answered(Core("a", fails_after=0, fails_with=Failure(Reason.PEER_UNAVAILABLE, service="x")), shelf)
    last = await answered(Core("Nine."), shelf)
    assert (last.stage, shelf.kept[last.response.response][0].status) == (Stage.COMPLETED, Status.COMPLETED)


async def test_what_has_ended_cannot_be_cancelled():
    shelf = Shelf()
    response = (await told(Core("Yes."), shelf))[-1].event.response
    for name, reason in (
        (response.response, Reason.RESPONSE_NOT_IN_BACKGROUND),
        ("resp_never", Reason.RESPONSE_NOT_FOUND),
    ):
        with pytest.raises(Failure) as refused:
            await responder(Core(), shelf).cancel(name)
        assert refused.value.reason is reason
