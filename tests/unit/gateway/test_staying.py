"""Turns of one conversation do well to go to one replica: the key by which they do goes out with every request."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest

from gateway.answering import Answerer, Wish
from gateway.generation import FinishReason, Generated, Message, Opening, Receipt, Speaker, TextDelta, Usage
from gateway.generator import GenerationRequest
from gateway.routing import ModelKind, Route
from gateway.stages import Stopwatch
from services.chassis.context import serving
from tests.unit.gateway.replica import CALLER

ROUTE = Route("base", "base", ModelKind.BASE)
ABOUT_FERRIES = Message(Speaker.SYSTEM, "You answer questions about the ferries of the north and about nothing else.")
QUESTION = Message(Speaker.USER, "What is a day ticket?")
FURTHER = Message(Speaker.ASSISTANT, "9 crowns."), Message(Speaker.USER, "And a child's?")


class Keeping:
    """A generator that keeps what it is asked, and answers with a word."""

    def __init__(self) -> None:
        self.requests: list[GenerationRequest] = []

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Opening | TextDelta | Generated]:
        self.requests.append(request)
        yield TextDelta("Word", tokens=1)
        yield Generated(FinishReason.STOP, Usage(), (), Receipt(request.request_id))


async def affinity_of(prompt: Any, sticky_key: str = "") -> str:
    """With what a prompt goes to the generator."""
    generator: Any = Keeping()
    recorder: Any = None  # what came to its end is recorded by whoever asked for it
    answers = Answerer(generator, recorder).answer(prompt, Wish(sticky_key=sticky_key), ROUTE, Stopwatch(lambda: 0.0))
    with serving(CALLER):
        async with aclosing(answers) as parts:
            assert [type(part) async for part in parts] == [TextDelta, Generated]
    (request,) = generator.requests
    return str(request.affinity)


async def test_turns_of_one_conversation_go_out_alike_and_another_opening_does_not() -> None:
    first = await affinity_of([ABOUT_FERRIES, QUESTION])
    assert first
    assert await affinity_of([ABOUT_FERRIES, QUESTION, *FURTHER]) == first
    assert await affinity_of([ABOUT_FERRIES, Message(Speaker.USER, "Do dogs pay?")]) not in ("", first)


@pytest.mark.parametrize("prompt", ["a text", [QUESTION]], ids=["a text", "a conversation"])
async def test_who_says_a_sticky_key_goes_out_by_that_alone(prompt: Any) -> None:
    mine = await affinity_of(prompt, "anna")
    assert mine == await affinity_of([ABOUT_FERRIES, QUESTION], "anna")
    assert mine not in ("", await affinity_of([ABOUT_FERRIES, QUESTION]), await affinity_of(prompt, "bert"))
