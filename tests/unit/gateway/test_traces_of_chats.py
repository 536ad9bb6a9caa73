"""What a trace keeps of chats and completions: the stages of each as Ask's, and no word of anybody's."""

from contextlib import aclosing

import pytest

from gateway.answering import Wish
from gateway.chat import Conversation
from gateway.generation import Generated, Message, Prompts, Several, Speaker, StageTiming, Tool, ToolUse
from services.chassis.context import current, serving
from services.chassis.errors import Failure, Reason
from tests.unit.gateway.asking.stock import ASKING, VERSION, World, world
from tests.unit.gateway.tracing import Trace

TURNS = (
    Message(Speaker.SYSTEM, "Speak of Zanzibar."),
    Message(Speaker.USER, "Does Zanzibar have ferries?"),
    Message(Speaker.ASSISTANT, "Zanzibar has."),
    Message(Speaker.USER, "What does Zanzibar cost?"),
)
TEXT = "Zanzibar costs"
TIMINGS = (StageTiming("queue", 0.125), StageTiming("prefill", 0.5, 7), StageTiming("generate", 2.0, 3))


@pytest.fixture
def place(tmp_path, trace: Trace) -> World:
    place = world(tmp_path, "Zanzibar costs ", "9 crowns.", traced=trace.telemetry.stage_span)
    place.generator.timings = TIMINGS
    return place


async def said(place: World, prompt: Prompts, **wish) -> Generated:
    """The end of an answer."""
    with serving(ASKING):
        async with aclosing(place.chatter.chat(Conversation(prompt, Wish(**{"model": "desk", **wish})))) as parts:
            async for part in parts:
                if isinstance(part, Generated):
                    return part
    raise AssertionError("an answer had no end")


@pytest.mark.parametrize(
    "prompt", [TURNS, TEXT, Several((TEXT, "Zanzibar has"))], ids=["chat", "completion", "several"]
)
async def test_every_stage_is_in_the_trace_as_the_answer_tells_it(place: World, trace: Trace, prompt: Prompts) -> None:
    told = (await said(place, prompt)).timings
    assert [it.stage for it in told] == ["resolve", "queue", "prefill", "generate"]
    assert sorted(span.name for span in trace.spans) == sorted(it.stage for it in told)
    assert trace.of("resolve") == (0, f"desk@{VERSION}")
    for stage in told[1:]:
        assert trace.of(stage.stage) == (stage.input_size, "")
        assert stage.seconds <= trace.seconds(stage.stage) < stage.seconds + 0.2


async def test_what_the_registry_is_asked_stands_below_the_stage_that_asks_it(place: World, trace: Trace) -> None:
    asked: list[str] = []
    resolve = place.registry.resolve

    async def asked_of(name: str, sticky_key: str = ""):
        asked.append(current().traceparent)
        return await resolve(name, sticky_key)

    place.registry.resolve = asked_of  # type: ignore[method-assign]  # it hears under which span it is called
    await said(place, TURNS)
    (span,) = [it for it in trace.spans if it.name == "resolve"]
    assert [parent.split("-")[2] for parent in asked] == [f"{span.context.span_id:016x}"]


async def test_a_name_that_means_nothing_is_a_stage_that_failed(place: World, trace: Trace) -> None:
    place.registry.fails = Failure(Reason.MODEL_NOT_FOUND, name="desk", nearest="")
    with pytest.raises(Failure):
        await said(place, TURNS)
    (span,) = trace.spans
    assert (span.name, span.status.is_ok, len(trace.says("desk"))) == ("resolve", False, 0)


@pytest.mark.parametrize(
    ("prompt", "wish"),
    [
        (TURNS, {}),
        (TURNS, {"model": "auto"}),
        (TURNS, {"tools": ToolUse((Tool("zanzibar", "Tells of Zanzibar."),))}),
        (TEXT, {"sticky_key": "Zanzibar", "fallback": "none"}),
        (Several((TEXT, "Zanzibar has")), {}),
    ],
    ids=["chat", "auto", "tools", "completion", "several"],
)
async def test_no_word_of_the_caller_or_of_the_answer_is_in_a_trace(
    place: World, trace: Trace, prompt: Prompts, wish
) -> None:
    await said(place, prompt, **wish)
    assert len(trace.spans) > 1
    assert not trace.says("zanzibar", "crowns")
