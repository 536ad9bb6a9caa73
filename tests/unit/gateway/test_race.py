"""One request at two replicas: whichever speaks first answers, the other is stopped, and the end says what happened."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest

from gateway.generation import FinishReason, Generated, Opening, Receipt, StageTiming, TextDelta, Usage
from gateway.replicas.race import Part, Race
from services.chassis.errors import Failure, Reason
from tests.harness.wording import missing

AWAY = Failure(Reason.PEER_UNAVAILABLE, retry_after_seconds=1.0, service="generator")
WRONG = Failure(Reason.FIELD_INVALID, field="sampling", problem="is wrong")
SECONDS = 20.0


class Scripted:
    """What one replica says: parts, failures, and gates that it waits at, in this order."""

    def __init__(self, *script: Part | Failure | asyncio.Event) -> None:
        self.script = script
        self.begun, self.closed = asyncio.Event(), asyncio.Event()

    async def __call__(self) -> AsyncGenerator[Part]:
        self.begun.set()
        try:
            for item in self.script:
                if isinstance(item, asyncio.Event):
                    await item.wait()
                elif isinstance(item, Failure):
                    raise item
                else:
                    yield item
        finally:
            self.closed.set()


def answer(name: str) -> list[Part]:
    receipt = Receipt("r1", engine=name)
    return [Opening(receipt), TextDelta(name), Generated(FinishReason.STOP, Usage(), (), receipt)]


class Trial:
    """A race of scripted replicas on a clock that moves when a first message is overdue."""

    def __init__(self, first: Scripted, second: Scripted | None) -> None:
        self.first, self.second = first, second or Scripted()
        self._there = second is not None
        self.overdue = asyncio.Event()
        self.asked: list[Failure | None] = []
        self.now = 100.0
        self.race = Race(first(), self._second, lambda: self.now, self._patience)

    async def _patience(self) -> None:
        await self.overdue.wait()
        self.now += 0.5

    def _second(self, failure: Failure | None) -> AsyncGenerator[Part] | None:
        self.asked.append(failure)
        return self.second() if self._there else None

    async def run(self) -> tuple[str, Generated]:
        """The text, and the end."""
        async with asyncio.timeout(SECONDS), aclosing(self.race.parts()) as stream:
            parts = [part async for part in stream]
        (end,) = (part for part in parts if isinstance(part, Generated))
        assert end is parts[-1]
        return "".join(part.text for part in parts if isinstance(part, TextDelta)), end


def silent() -> asyncio.Event:
    return asyncio.Event()


async def settled() -> None:
    """Whatever can happen without a gate has happened."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_of_a_silent_one_and_one_that_speaks_the_latter_answers_and_the_end_says_so():
    trial = Trial(Scripted(silent()), Scripted(*answer("b")))
    trial.overdue.set()
    text, end = await trial.run()
    assert (text, end.receipt.engine, trial.asked) == ("b", "b", [None])
    assert trial.first.closed.is_set()
    assert end.timings == (StageTiming("replica", 0.5, 2),)
    (told,) = end.fallbacks
    assert (told.stage, told.instead) == ("replica", "another replica of the generator")
    assert not missing(told.reason, "0.50 s")
    assert (trial.race.hedged, trial.race.second_answers) == (True, True)


async def test_the_one_that_was_slow_answers_where_it_speaks_before_the_second_and_the_end_says_that_there_was_one():
    gate = asyncio.Event()
    trial = Trial(Scripted(gate, *answer("a")), Scripted(silent()))
    trial.overdue.set()
    running = asyncio.create_task(trial.run())
    await trial.second.begun.wait()
    gate.set()
    text, end = await running
    assert (text, end.receipt.engine) == ("a", "a")
    assert trial.second.closed.is_set()
    assert (end.fallbacks, end.timings) == ((), (StageTiming("replica", 0.0, 2),))
    assert (trial.race.hedged, trial.race.second_answers) == (True, False)


async def test_the_other_is_stopped_before_the_first_part_leaves():
    trial = Trial(Scripted(silent()), Scripted(*answer("b")))
    trial.overdue.set()
    async with asyncio.timeout(SECONDS), aclosing(trial.race.parts()) as parts:
        assert isinstance(await anext(parts), Opening)
        assert trial.first.closed.is_set()


async def test_in_time_nobody_else_is_asked_nor_once_something_was_said():
    gate = asyncio.Event()
    opening, word, end = answer("a")
    trial = Trial(Scripted(opening, word, gate, end), Scripted(*answer("b")))
    async with asyncio.timeout(SECONDS), aclosing(trial.race.parts()) as parts:
        assert [type(await anext(parts)) for _ in range(2)] == [Opening, TextDelta]
        trial.overdue.set()
        resting = asyncio.create_task(_rest(parts))
        await settled()
        gate.set()
        (last,) = await resting
    assert isinstance(last, Generated)
    assert (last.timings, last.fallbacks, trial.asked, trial.race.hedged) == ((), (), [], False)


async def _rest(parts: AsyncGenerator[Part]) -> list[Part]:
    return [part async for part in parts]


async def test_a_second_that_fails_leaves_everything_as_it_was():
    gate = asyncio.Event()
    for failure in (AWAY, WRONG):
        gate.clear()
        trial = Trial(Scripted(gate, *answer("a")), Scripted(failure))
        trial.overdue.set()
        running = asyncio.create_task(trial.run())
        await trial.second.closed.wait()
        await settled()
        gate.set()
        text, end = await running
        assert (text, end.fallbacks, trial.asked) == ("a", (), [None])


async def test_a_first_that_fails_leaves_the_answer_to_the_second_and_a_third_is_never_asked():
    fails, speaks = asyncio.Event(), asyncio.Event()
    trial = Trial(Scripted(fails, AWAY), Scripted(speaks, *answer("b")))
    trial.overdue.set()
    running = asyncio.create_task(trial.run())
    await trial.second.begun.wait()
    fails.set()
    await trial.first.closed.wait()
    await settled()
    speaks.set()
    text, end = await running
    assert (text, trial.asked) == ("b", [None])
    assert end.fallbacks[0].reason == f"the first failed: {AWAY.sentence}"


@pytest.mark.parametrize("second", [None, AWAY])
async def test_where_both_fail_or_there_is_no_other_the_failure_is_the_answers(second):
    trial = Trial(Scripted(AWAY), None if second is None else Scripted(second))
    with pytest.raises(Failure) as failed:
        await trial.run()
    assert (failed.value.reason, trial.asked) == (Reason.PEER_UNAVAILABLE, [AWAY])


async def test_what_any_replica_would_refuse_ends_it_at_once_and_stops_the_second():
    gate = asyncio.Event()
    trial = Trial(Scripted(gate, WRONG), Scripted(silent()))
    trial.overdue.set()
    running = asyncio.create_task(trial.run())
    await trial.second.begun.wait()
    gate.set()
    with pytest.raises(Failure) as failed:
        await running
    assert failed.value.reason is Reason.FIELD_INVALID
    assert trial.second.closed.is_set()


@pytest.mark.parametrize("said", [0, 1, 2])
async def test_a_failure_is_another_replicas_affair_until_a_token_was_told(said):
    """After an opening too, which binds nobody."""
    trial = Trial(Scripted(*answer("a")[:said], AWAY), Scripted(*answer("b")))
    if said < 2:
        text, end = await trial.run()
        assert (text, end.receipt.engine, trial.asked) == ("b", "b", [AWAY])
        assert end.fallbacks[0].reason == f"the first failed: {AWAY.sentence}"
        assert not trial.race.hedged
    else:
        with pytest.raises(Failure):
            await trial.run()
        assert trial.asked == []


async def test_where_there_is_no_second_the_first_is_waited_for():
    gate = asyncio.Event()
    trial = Trial(Scripted(gate, *answer("a")), None)
    trial.overdue.set()
    running = asyncio.create_task(trial.run())
    await settled()
    gate.set()
    text, end = await running
    assert (text, end.timings, end.fallbacks, trial.race.hedged) == ("a", (), (), False)
    assert trial.asked == [None]


@pytest.mark.parametrize("leaves", ["while both are silent", "in the middle"])
async def test_who_leaves_stops_every_replica(leaves):
    rest: list[Any] = [silent()] if leaves == "while both are silent" else [*answer("b")[:2], silent()]
    trial = Trial(Scripted(silent()), Scripted(*rest))
    trial.overdue.set()
    running = asyncio.create_task(trial.run())
    await trial.second.begun.wait()
    await settled()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert trial.first.closed.is_set()
    assert trial.second.closed.is_set()
