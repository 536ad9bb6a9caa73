"""A replica that is silent for too long, over real wires: another one answers, is paid for once, and the answer says so."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from gateway.answering import Answerer, Wish
from gateway.generation import Generated, Receipt, TextDelta
from gateway.generator import GenerationRequest
from gateway.peers.replicas import ReplicatedGenerator
from gateway.replicas.hedging import LEAST, Hedging, HedgingLimits
from gateway.routing import ModelKind, Route
from gateway.stages import Stopwatch
from services.chassis.context import serving
from tests.unit.gateway.replica import CALLER, Replica
from tests.unit.gateway.test_replicas import SECONDS, VERSION, gateway, holds


class Overdue:
    """A pause that ends when the test says so, and what it was asked for."""

    def __init__(self) -> None:
        self.over = asyncio.Event()
        self.asked: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        await self.over.wait()


def learned(share: float = 1.0, quantile: float = 0.95) -> Hedging:
    """One that knows that first messages take a twentieth of a second."""
    hedging = Hedging(HedgingLimits(quantile, 0.0, share))
    for _ in range(LEAST):
        hedging.heard("", 0.05)
    return hedging


def pair(**second: Any) -> tuple[Replica, Replica]:
    """One that is asked first and says nothing, and one that is a little busier."""
    first = Replica("a", holds=(VERSION,))
    first.stops_after = 0
    return first, Replica("b", **{"holds": (VERSION,), "answers": 1, **second})


async def collected(parts: AsyncGenerator[Any]) -> tuple[str, Generated]:
    async with asyncio.timeout(SECONDS), aclosing(parts) as stream:
        told = [part async for part in stream]
    return "".join(part.text for part in told if isinstance(part, TextDelta)), told[-1]


def ask(generator: ReplicatedGenerator) -> "asyncio.Task[tuple[str, Generated]]":
    return asyncio.create_task(collected(generator.generate(GenerationRequest("p", "id", version=VERSION))))


async def test_a_second_replica_answers_and_the_silent_one_is_told_to_stop():
    (a, b), overdue, counted = pair(), Overdue(), list[str]()
    async with gateway(a, b, hedging=learned(), pause=overdue, count=counted.append) as (generator, pool):
        asked = ask(generator)
        await a.stopped.wait()
        overdue.over.set()
        text, end = await asked
        assert (text, end.receipt.engine, overdue.asked) == ("bbb", "b", [0.05])
        assert [told.stage for told in end.fallbacks] == ["replica"]
        assert (end.timings[0].stage, end.timings[0].input_size) == ("replica", 2)
        async with asyncio.timeout(SECONDS):
            await a.cancelled.wait()
        assert [item.known.outstanding for item in pool()] == [0, 0]
        assert (a.asked, b.asked, counted) == (1, 1, ["second"])


async def test_the_first_answers_if_it_speaks_before_the_second_does():
    (a, b), overdue, counted = pair(), Overdue(), list[str]()
    b.stops_after = 0
    async with gateway(a, b, hedging=learned(), pause=overdue, count=counted.append) as (generator, _):
        asked = ask(generator)
        await a.stopped.wait()
        overdue.over.set()
        await b.stopped.wait()
        a.goes_on.set()
        text, end = await asked
        assert (text, end.fallbacks, end.timings[0].input_size) == ("aaa", (), 2)
        async with asyncio.timeout(SECONDS):
            await b.cancelled.wait()
        assert counted == ["first"]


async def test_one_that_would_have_to_load_the_version_first_is_not_asked():
    (a, b), overdue, counted = pair(holds=()), Overdue(), list[str]()
    hedging = learned()
    async with gateway(a, b, hedging=hedging, pause=overdue, count=counted.append) as (generator, _):
        asked = ask(generator)
        await a.stopped.wait()
        overdue.over.set()
        a.goes_on.set()
        text, end = await asked
        assert (text, end.fallbacks, end.timings) == ("aaa", (), ())
        assert (b.asked, counted) == (0, [])
        assert hedging.afford()


async def test_no_more_are_asked_twice_than_may_be():
    (a, b), overdue, counted = pair(), Overdue(), list[str]()
    async with gateway(a, b, hedging=learned(share=0.01), pause=overdue, count=counted.append) as (generator, _):
        asked = ask(generator)
        await a.stopped.wait()
        overdue.over.set()
        await holds(lambda: counted)
        a.goes_on.set()
        assert (await asked)[0] == "aaa"
        assert (b.asked, counted) == (0, ["unaffordable"])


@pytest.mark.parametrize("why", ["it is turned off", "nobody waits for the answer", "there is no other"])
async def test_silence_is_borne_where(why):
    (a, b), overdue = pair(), Overdue()
    hedging = learned(quantile=0.0 if why == "it is turned off" else 0.95)
    there = [a] if why == "there is no other" else [a, b]
    async with gateway(*there, hedging=hedging, pause=overdue) as (generator, _):
        # A service that acts for somebody does what was accepted from them before.
        with serving(replace(CALLER, actor="files" if why == "nobody waits for the answer" else "")):
            asked = ask(generator)
        await a.stopped.wait()
        a.goes_on.set()
        assert (await asked)[0] == "aaa"
        assert (overdue.asked, b.asked) == ([], 0)


async def test_what_first_messages_took_is_what_the_next_requests_wait_for():
    a, b, overdue = Replica("a"), Replica("b"), Overdue()
    async with gateway(a, b, hedging=Hedging(HedgingLimits(0.95, 0.0, 1.0)), pause=overdue) as (generator, _):
        for _ in range(LEAST + 1):
            await collected(generator.generate(GenerationRequest("p", "id")))
    assert len(overdue.asked) == 1
    assert 0 < overdue.asked[0] < SECONDS


@pytest.mark.parametrize(("actor", "learns"), [("files", False), ("", True)])
async def test_what_nobody_waits_for_teaches_nobody_to_wait(actor, learns):
    a, b, hedging = Replica("a"), Replica("b"), Hedging(HedgingLimits(0.95, 0.0, 1.0))
    async with gateway(a, b, hedging=hedging, pause=Overdue()) as (generator, _):
        with serving(replace(CALLER, actor=actor)):
            for _ in range(LEAST):
                await collected(generator.generate(GenerationRequest("p", "id")))
    assert (hedging.patience_seconds("") is not None) is learns


class Records:
    """Receipts that were kept, by the engine that they name."""

    def __init__(self) -> None:
        self.kept: list[str] = []

    async def record(self, tenant: str, principal: str, method: str, receipt: Receipt, project: str = "") -> None:
        self.kept.append(receipt.engine)

    def record_cancelled(self, tenant: str, principal: str, method: str, receipt: Receipt, project: str = "") -> None:
        self.kept.append(f"{receipt.engine}, cancelled")


async def recorded(generator: ReplicatedGenerator, records: Records) -> Generated:
    answerer = Answerer(generator, records)  # type: ignore[arg-type]  # what is recorded is all that is asked
    route = Route("base", "base", ModelKind.BASE)
    with serving(CALLER):
        parts = answerer.answer("p", Wish("base", request_id="r1"), route, Stopwatch(lambda: 0.0))
        _, end = await collected(parts)
        await answerer.record(end)
    return end


async def test_what_was_used_is_recorded_once_for_the_one_that_answered():
    (a, b), overdue, records = pair(), Overdue(), Records()
    async with gateway(a, b, hedging=learned(), pause=overdue) as (generator, _):
        asked = asyncio.create_task(recorded(generator, records))
        await a.stopped.wait()
        overdue.over.set()
        end = await asked
        assert records.kept == ["b"]
        # What the race says arrives where callers read it.
        assert [told.stage for told in end.fallbacks] == ["replica"]
        assert [timing.stage for timing in end.timings] == ["replica"]


async def test_who_leaves_while_both_are_silent_pays_for_nothing_and_both_are_stopped():
    (a, b), overdue, records, counted = pair(), Overdue(), Records(), list[str]()
    b.stops_after = 0
    async with gateway(a, b, hedging=learned(), pause=overdue, count=counted.append) as (generator, _):
        asked = asyncio.create_task(recorded(generator, records))
        await a.stopped.wait()
        overdue.over.set()
        await b.stopped.wait()
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        async with asyncio.timeout(SECONDS):
            await asyncio.gather(a.cancelled.wait(), b.cancelled.wait())
        assert (records.kept, counted) == ([], ["none"])
