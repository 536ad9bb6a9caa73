"""What a request holds on the way to its answer: a model that is asked aside while it is, one that is left no longer."""

import asyncio
import contextvars
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.asking.question import Answer
from gateway.generation import Message, Speaker, TextDelta
from gateway.limits.gate import answered_by, aside
from gateway.limits.meters import Meter
from gateway.limits.parts import Held, Part
from gateway.limits.terms import Demand, Grant, Limit, Terms, Unit
from services.chassis.context import serving
from services.chassis.errors import Failure, Reason
from tests.unit.gateway.asking.stock import asking as question
from tests.unit.gateway.asking.stock import world
from tests.unit.gateway.test_limits import Access, OpenGate, ask, asking, gate_over, tell

HISTORY = (Message(Speaker.USER, "How much is a day ticket?"), Message(Speaker.ASSISTANT, "Nine crowns."))
FOLLOW_UP = question("And for a child?", history=HISTORY)
# What the receipts of the tests' generator say that each generation used.
USED = 10
TEN = (Unit.TOKENS, 1000)


class Asked:
    """A question of the tests' world that has come to its first text."""

    def __init__(self, gate: OpenGate, events: Any) -> None:
        self.gate = gate
        self.events = events

    async def beside(self, demand: Demand) -> Reason | None:
        """Why another request of the same tenant's is refused now; None where it is not."""
        # A context of its own, as requests have.
        return await asyncio.create_task(ask(self.gate, demand))

    def left_of(self, scope: str, unit: Unit) -> int:
        meter = self.gate.accounts.of("ada").meters[scope, unit]
        return meter.held + meter.remaining

    def reserved_of(self, scope: str, unit: Unit) -> int:
        return self.gate.accounts.of("ada").meters[scope, unit].reserved

    async def end(self) -> Answer:
        end: Answer = [event async for event in self.events][-1]
        return end


@asynccontextmanager
async def answering(place: Any, asked: Any, demand: Demand, *limits: Limit):
    """The question in the middle of its answer."""
    async with gate_over(Access(Terms(limits))) as gate:
        with serving(asking()):
            async with gate.passing(demand, tell), aclosing(place.asker.ask(asked)) as events:
                async for event in events:
                    if isinstance(event, TextDelta):
                        break
                yield Asked(gate, events)
        assert {meter.reserved for meter in gate.accounts.of("ada").meters.values()} == {0}


@pytest.mark.parametrize("limit", [(Unit.PLACES, 1), (Unit.TOKENS, 1000)])
async def test_the_base_that_made_a_question_whole_is_free_while_another_model_answers(tmp_path, limit):
    place = world(tmp_path, "Four ", "crowns.")
    async with answering(place, FOLLOW_UP, Demand("desk", 10, 900), Limit("model:base", *limit)) as asked:
        assert ["~" in it.request_id for it in place.generator.requests] == [True, False]
        assert asked.reserved_of("model:base", limit[0]) == 0
        assert await asked.beside(Demand("base", 1, 900 if limit[0] is Unit.TOKENS else 1)) is None
        assert (await asked.end()).fallbacks == ()


async def test_what_was_asked_aside_is_settled_when_it_ends_with_every_limit_that_it_falls_under(tmp_path):
    place = world(tmp_path, "Four ", "crowns.")
    limits = (
        Limit("", *TEN),
        Limit("model:base", *TEN),
        Limit("model:desk", *TEN),
        Limit("model:base", Unit.REQUESTS, 9),
    )
    async with answering(place, FOLLOW_UP, Demand("desk", 10, 200), *limits) as asked:
        left = {scope: asked.left_of(scope, Unit.TOKENS) for scope in ("", "model:base", "model:desk")}
        assert left == {"": 1000 - 210 - USED, "model:base": 1000 - USED, "model:desk": 1000 - 210}
        await asked.end()
    left = {scope: asked.left_of(scope, Unit.TOKENS) for scope in ("", "model:base", "model:desk")}
    assert left == {"": 1000 - 2 * USED, "model:base": 1000 - USED, "model:desk": 1000 - USED}
    assert asked.left_of("model:base", Unit.REQUESTS) == 8


async def test_every_check_of_an_answer_is_one_request_of_the_base_and_gives_its_place_back(tmp_path):
    place = world(tmp_path, "The harbour has a lighthouse. The mayor keeps bees. ", "Four crowns.")
    place.generator.aside = "no"
    limits = (Limit("model:base", Unit.PLACES, 1), Limit("model:base", Unit.REQUESTS, 1), Limit("model:base", *TEN))
    asked_for = replace(question(), check_support=True)
    async with answering(place, asked_for, Demand("desk", 10, 10), *limits) as asked:
        assert (await asked.end()).fallbacks == ()
        checks = sum("~check" in it.request_id for it in place.generator.requests)
        assert checks > 1
        assert [asked.reserved_of("model:base", unit) for unit in (Unit.PLACES, Unit.TOKENS)] == [0, 0]
        assert asked.left_of("model:base", Unit.TOKENS) == 1000 - checks * USED
        assert await asked.beside(Demand("base", 1, 1)) is Reason.RATE_LIMIT_EXCEEDED


async def test_a_request_takes_one_place_of_a_model_that_it_asks_aside_and_is_answered_by():
    async with gate_over(Access(Terms((Limit("model:base", Unit.PLACES, 1),)))) as gate:
        with serving(asking()):
            async with gate.passing(Demand("desk", 1, 1), tell):
                request = contextvars.copy_context()
                async with aside(Demand("base", 1, 1)):
                    # Who answers may be known while the question is made whole.
                    await asyncio.create_task(answered_by("base"), context=request)
                meter = gate.accounts.of("ada").meters["model:base", Unit.PLACES]
                assert meter.reserved == 1
        assert meter.reserved == 0


@pytest.mark.parametrize("when", ["its prompt is counted", "it is to answer"])
@pytest.mark.parametrize("limit", [(Unit.PLACES, 1), (Unit.TOKENS, 1000)])
async def test_a_model_that_is_left_for_another_is_free_while_that_one_answers(tmp_path, when, limit):
    place = world(tmp_path, "Four ", "crowns.")
    failure = Failure(Reason.TEMPLATE_MISMATCH, field="version", problem="it has another")
    if when == "it is to answer":
        place.generator.refuses = failure
    else:
        place.generator.cannot_count = failure
    asked_for = question("What does a child pay?")
    asked_for = replace(asked_for, wish=replace(asked_for.wish, model="auto", fallback="base"))
    limits = (Limit("model:families", *limit), Limit("model:base", *limit))
    async with answering(place, asked_for, Demand("auto", 10, 900), *limits) as asked:
        assert asked.reserved_of("model:families", limit[0]) == 0
        assert asked.reserved_of("model:base", limit[0]) == (910 if limit[0] is Unit.TOKENS else 1)
        assert await asked.beside(Demand("families", 1, 900)) is None
        assert [told.stage for told in (await asked.end()).fallbacks] == ["route"]


async def test_a_question_aside_that_is_refused_or_given_up_holds_nothing():
    limits = (Limit("model:base", Unit.PLACES, 1), Limit("model:base", Unit.TOKENS, 50))
    access = Access(Terms(limits))
    async with gate_over(access) as gate:
        account = gate.accounts.of("ada")
        with serving(asking()):
            async with gate.passing(Demand("desk", 1, 1), tell):
                with suppress(ConnectionError):
                    async with aside(Demand("base", 10, 10)):
                        assert [meter.reserved for meter in account.meters.values()] == [1, 20]
                        raise ConnectionError
                # Another gateway's requests have the rest.
                account.meters["model:base", Unit.TOKENS].held = 0
                access.free["model:base", Unit.TOKENS] = 0
                with pytest.raises(Failure):
                    async with aside(Demand("base", 10, 10)):
                        raise AssertionError("it is not asked")
                assert [meter.reserved for meter in account.meters.values()] == [0, 0]


class Books:
    """One meter, and what it must show."""

    def __init__(self, unit: Unit) -> None:
        self.meter = Meter(Limit("", unit, 1000))
        self.meter.given(self.meter.wish(0.0), Grant("", unit, 1000, 0, 0.0), 0.0)
        self.spent = 0


PARTS = st.lists(st.tuples(st.sampled_from(["aside", "route", "left", "use", "end"]), st.integers(0, 40)), max_size=20)


@given(operations=PARTS)
def test_a_request_holds_what_its_neediest_part_needs_and_ends_with_what_all_used(operations):
    books = [Books(Unit.TOKENS), Books(Unit.PLACES), Books(Unit.REQUESTS)]
    terms = Terms()
    held = Held()
    whole = Part(Demand("m", 0, 0), held, terms)
    running: list[tuple[Part, dict[str, int]]] = [(whole, {})]

    def reserve(part: Part, model: str, amount: int) -> None:
        part.reserve(model, [(it.meter, amount if it.meter.limit.unit is Unit.TOKENS else 1) for it in books], 0.0)

    for operation, amount in operations:
        part, needs = running[-1]
        match operation:
            case "aside":
                part = whole.beside(Demand("m", 0, 0))
                reserve(part, "m", amount)
                running.append((part, {"m": amount}))
            case "route" if not part.has("other"):
                reserve(part, "other", amount)
                needs["other"] = amount
            case "left":
                part.left()
                needs.pop("other", None)
            case "use":
                part.uses.append(Demand("m", amount, 0))
                books[0].spent += amount
            case "end" if len(running) > 1:
                running.pop()[0].end()
        most = max((it for _, needs in running for it in needs.values()), default=0)
        places = any(needs for _, needs in running)
        assert [books[0].meter.reserved, books[1].meter.reserved] == [most, int(places)]
        assert books[2].meter.reserved == int(books[2].meter in held.reserved)
    for part, _ in reversed(running):
        part.end()
    asked = int(books[2].meter in held.reserved)
    spent = [books[0].spent if asked else 0, 0, asked]
    assert [it.meter.reserved for it in books] == [0, 0, 0]
    assert [1000 - it.meter.held for it in books] == spent
