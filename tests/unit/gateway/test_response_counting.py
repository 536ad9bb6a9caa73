"""How long a response's prompt is: what is counted is what would be generated from, of the version that would answer."""

from typing import Any

import pytest

from gateway.generation import Message, Speaker, Tool, ToolCall, ToolUse
from gateway.generator import PromptSize
from gateway.responses.counting import Counting
from gateway.responses.grounds import Manner
from gateway.responses.nouns import Asked, FileSearch, Item, Returned, Settings, ToolChoice
from gateway.routing import Router
from services.chassis.context import serving
from services.chassis.errors import Failure, Reason
from tests.unit.gateway.asking.stock import ASKING, VERSION, Chooser, Generator, Registry
from tests.unit.gateway.test_responses import Core, Shelf, said, told

FUNCTIONS = ToolUse((Tool("weather"),))
SEARCH = FileSearch(("vs",))


class Measured:
    """Every prompt has five tokens; what was counted is remembered."""

    def __init__(self, refuses: Failure | None = None) -> None:
        self.counted: list[Any] = []
        self.refuses = refuses

    async def size(self, messages: Any, base: str, version: str, tools: Any = None) -> PromptSize:
        self.counted.append((list(messages), version, tools))
        if version and self.refuses is not None:
            raise self.refuses
        return PromptSize(5, 100)


async def counted(measured: Measured, settings: Settings, *items: Item, shelf: Any = None, fallback: str = "") -> int:
    registry = Registry()
    registry.fallback = fallback
    chooser: Any = Chooser()
    counting = Counting(Router(registry, Generator(), chooser), measured, shelf or Shelf())
    with serving(ASKING):
        return (await counting.counted(Asked(settings, items or (said("How much?"),)))).tokens


async def test_instructions_what_was_said_before_and_functions_are_in_it() -> None:
    shelf, measured = Shelf(), Measured()
    first = (await told(Core("Nine."), shelf))[-1].event.response
    assert (
        await counted(measured, Settings(model="desk", instructions="Be brief.", previous=first.response), shelf=shelf)
        == 5
    )
    asked = [("system", "Be brief."), ("user", "How much?"), ("assistant", "Nine."), ("user", "How much?")]
    messages, version, tools = measured.counted[-1]
    assert ([(it.speaker.value, it.content) for it in messages], version, tools) == (asked, VERSION, None)

    call = ToolCall("c", "weather", "{}")
    await counted(
        measured, Settings(functions=FUNCTIONS), said("Weather?"), Item("", call), Item("", Returned("c", "fog"))
    )
    messages, version, tools = measured.counted[-1]
    assert messages[-2:] == [Message(Speaker.ASSISTANT, "", (call,)), Message(Speaker.TOOL, "fog", call_id="c")]
    assert (version, tools) == ("", FUNCTIONS)


async def test_what_a_search_finds_is_not_known_before_it_and_is_not_counted() -> None:
    measured = Measured()
    with pytest.raises(Failure) as refused:
        await counted(measured, Settings(search=SEARCH))
    assert (refused.value.field, measured.counted) == ("settings.file_search", [])
    assert await counted(measured, Settings(search=SEARCH, tool_choice=ToolChoice.NONE)) == 5


async def test_what_no_response_would_be_made_of_is_not_counted() -> None:
    for items, reason in (
        ((said("Hi", Speaker.ASSISTANT),), Reason.FIELD_INVALID),
        ((said(" "),), Reason.QUESTION_EMPTY),
    ):
        with pytest.raises(Failure) as refused:
            await counted(Measured(), Settings(), *items)
        assert refused.value.reason is reason


async def test_a_version_that_cannot_be_counted_is_left_for_its_fallback() -> None:
    unfit = Failure(Reason.TEMPLATE_MISMATCH, template="t", known="u")
    measured = Measured(unfit)
    assert await counted(measured, Settings(model="desk"), fallback="base") == 5
    assert [version for _, version, _ in measured.counted] == [VERSION, ""]
    for settings in (Settings(model="desk", fallback="none"), Settings(model="desk", manner=Manner(fallbacks=False))):
        with pytest.raises(Failure) as refused:
            await counted(Measured(unfit), settings, fallback="base")
        assert refused.value.reason is Reason.TEMPLATE_MISMATCH
