"""Functions in responses: calls are items, their outputs go on from them, and the conversation is the caller's own."""

from typing import Any

import pytest

from gateway.generation import (
    FinishReason,
    Generated,
    Message,
    Receipt,
    Speaker,
    TextDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolChoice,
    ToolUse,
)
from gateway.responses.nouns import (
    Arguments,
    FileSearch,
    Item,
    ItemBegun,
    ItemDone,
    ItemStatus,
    Returned,
    Stage,
    Status,
    Text,
    TextStage,
    Turn,
    Whole,
)
from services.chassis.errors import Failure, Reason
from tests.unit.gateway.test_responses import USAGE, Core, Shelf, said, told

WEATHER = ToolUse((Tool("weather"),), ToolChoice.REQUIRED)
FIRST = TextDelta("", calls=(ToolCallDelta(0, "call_1", "weather"),))


def more(text: str, index: int = 0, **named: str) -> TextDelta:
    return TextDelta("", calls=(ToolCallDelta(index, arguments=text, **named),))


class Chat(Core):
    """Says parts in answer to a conversation; a question is asked of the same, and told apart."""

    def __init__(self, *parts: TextDelta, finish: FinishReason = FinishReason.TOOL_CALLS) -> None:
        super().__init__("So.")
        self.parts, self.ends = parts, finish
        self.conversations: list[Any] = []

    async def chat(self, conversation: Any) -> Any:
        self.conversations.append(conversation)
        for part in self.parts:
            yield part
        yield Generated(self.ends, USAGE, (), Receipt(conversation.wish.request_id, usage=USAGE))


async def test_a_call_is_an_item_whose_arguments_come_as_they_are_written() -> None:
    shelf = Shelf()
    events = await told(Chat(FIRST, more('{"city": '), more('"Zug"}')), shelf, functions=WEATHER)
    assert [it.number for it in events] == list(range(len(events)))
    match [it.event for it in events]:
        case [
            Whole(Stage.CREATED),
            Whole(Stage.IN_PROGRESS),
            ItemBegun(0, Item(name, ToolCall("call_1", "weather", ""), ItemStatus.IN_PROGRESS)),
            Arguments(0, _, '{"city": ', False),
            Arguments(0, _, '"Zug"}', False),
            Arguments(0, _, '{"city": "Zug"}', True),
            ItemDone(0, Item(_, ToolCall("call_1", "weather", '{"city": "Zug"}'), ItemStatus.COMPLETED)),
            Whole(Stage.COMPLETED, response),
        ]:
            pass
        case other:
            pytest.fail(f"other events: {other}")
    assert name.startswith("fc_")
    assert (response.status, response.usage, shelf.kept[response.response][0]) == (Status.COMPLETED, USAGE, response)


async def test_text_and_several_calls_are_items_in_their_order_each_of_its_own_id() -> None:
    parts = [
        TextDelta("I "),
        TextDelta("look."),
        FIRST,
        more("{}"),
        more("", 1, id="call_2", name="time"),
        more("{}", 1),
    ]
    events = [it.event for it in await told(Chat(*parts), Shelf(), functions=WEATHER)]
    done = [event.item for event in events if isinstance(event, ItemDone)]
    assert [item.content for item in done] == [
        Turn(Speaker.ASSISTANT, ("I look.",)),
        ToolCall("call_1", "weather", "{}"),
        ToolCall("call_2", "time", "{}"),
    ]
    assert len({item.item for item in done}) == 3
    begun = [(event.index, event.item.item) for event in events if isinstance(event, ItemBegun)]
    assert begun == [(place, item.item) for place, item in enumerate(done)]
    places = [(event.index, event.item) for event in events if isinstance(event, Arguments | Text)]
    assert set(places) == set(begun)
    assert [event.stage for event in events if isinstance(event, Text)][-2:] == [TextStage.DONE, TextStage.WHOLE]
    assert events[-1].response.output == tuple(done)


async def test_a_call_that_is_cut_off_is_incomplete() -> None:
    events = await told(Chat(FIRST, more('{"ci'), finish=FinishReason.LENGTH), Shelf(), functions=WEATHER)
    response = events[-1].event.response
    assert (response.status, response.output[0].status) == (Status.INCOMPLETE, ItemStatus.INCOMPLETE)


async def test_an_answer_that_says_nothing_is_one_all_the_same() -> None:
    events = await told(Chat(finish=FinishReason.STOP), Shelf(), functions=WEATHER)
    assert [item.content for item in events[-1].event.response.output] == [Turn(Speaker.ASSISTANT, ("",))]


async def test_an_output_goes_on_from_the_call_that_a_response_made() -> None:
    shelf, first = Shelf(), Chat(TextDelta("I look."), FIRST, more("{}"))
    called = (await told(first, shelf, functions=WEATHER, instructions="Be brief."))[-1].event.response
    second = Chat(TextDelta("Fog."), finish=FinishReason.STOP)
    output = Item("", Returned("call_1", "fog"))
    answer = (await told(second, shelf, output, previous=called.response))[-1].event.response
    (conversation,) = second.conversations
    assert list(conversation.prompt) == [
        Message(Speaker.USER, "How much?"),
        Message(Speaker.ASSISTANT, "I look.", (ToolCall("call_1", "weather", "{}"),)),
        Message(Speaker.TOOL, "fog", call_id="call_1"),
    ]
    assert answer.output[0].content.text == "Fog."
    # And from there by words alone, with no function on offer.
    third = Chat(TextDelta("Yes."), finish=FinishReason.STOP)
    await told(third, shelf, said("Sure?"), previous=answer.response)
    assert [turn.speaker.value for turn in third.conversations[0].prompt][-3:] == ["tool", "assistant", "user"]


async def test_instructions_are_one_word_of_the_systems_at_the_beginning() -> None:
    core = Chat(finish=FinishReason.STOP)
    await told(
        core, Shelf(), said("Rhyme.", Speaker.SYSTEM), said("Hello"), functions=WEATHER, instructions="Be brief."
    )
    await told(core, Shelf(), said("Hello"), functions=WEATHER, instructions="Be brief.")
    firsts = [conversation.prompt[0] for conversation in core.conversations]
    assert firsts == [Message(Speaker.SYSTEM, "Be brief.\n\nRhyme."), Message(Speaker.SYSTEM, "Be brief.")]
    assert core.conversations[0].wish.tools == WEATHER


@pytest.mark.parametrize(
    ("items", "settings", "field"),
    [
        ((said("Hello"),), {"search": FileSearch(("vs",))}, "settings.tool_use.tools"),
        ((Item("", Returned("call_9", "fog")),), {}, "input"),
        ((Item("", ToolCall("call_1", "weather", "{}")),), {}, "input"),
        ((said("Hello", Speaker.ASSISTANT),), {}, "input"),
    ],
)
async def test_what_makes_no_conversation_is_refused_by_its_field(items: Any, settings: Any, field: str) -> None:
    core = Chat()
    with pytest.raises(Failure) as refused:
        await told(core, Shelf(), *items, functions=WEATHER, **settings)
    assert (refused.value.reason, refused.value.field) == (Reason.FIELD_INVALID, field)
    assert core.conversations == []


async def test_a_response_without_functions_is_asked_as_before() -> None:
    core = Chat()
    await told(core, Shelf())
    assert (len(core.asked), core.conversations) == (1, [])
