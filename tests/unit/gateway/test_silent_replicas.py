"""A replica whose engine hangs behind a living event loop is left alone; one that only had little time is not."""

import asyncio
from contextlib import aclosing
from dataclasses import replace

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.generator import GenerationRequest
from gateway.peers.replicas import ReplicatedGenerator
from gateway.replicas.ejection import CONSECUTIVE_FAILURES, Standing
from gateway.replicas.silence import ALONE_SECONDS, KEPT, LEAST_SECONDS, Silence, Voices
from services.chassis.context import serving
from services.chassis.errors import Failure, Reason
from tests.harness.clock import ManualClock
from tests.unit.gateway.replica import CALLER, Replica
from tests.unit.gateway.test_replicas import SECONDS, VERSION, answer, gateway


def fleet() -> tuple[ManualClock, Silence, Silence]:
    clock = ManualClock(100.0)
    voices = Voices(clock)
    return clock, Silence("a", voices), Silence("b", voices)


def test_silence_is_too_long_while_others_answer_what_was_sent_later():
    clock, a, b = fleet()
    left = a.asked()
    clock.advance(1.0)
    b.spoke(b.asked())
    clock.advance(LEAST_SECONDS - 1.01)
    assert not a.too_long
    clock.advance(0.02)
    assert a.too_long
    assert a.ended(left)
    assert not a.too_long


def test_and_where_nobody_answers_only_after_longer():
    clock, a, b = fleet()
    b.spoke(b.asked())
    clock.advance(1.0)
    left = a.asked()
    clock.advance(ALONE_SECONDS - 0.01)
    assert not a.too_long
    clock.advance(0.01)
    assert a.ended(left)


@pytest.mark.parametrize("what", ["speaks to somebody else", "loads a version"])
def test_a_replica_that_gets_on_is_not_silent(what: str):
    clock, a, b = fleet()
    other, left = a.asked(), a.asked()
    for _ in range(20):
        clock.advance(LEAST_SECONDS - 0.01)
        b.spoke(b.asked())
        assert not a.too_long
        a.moved() if what == "loads a version" else a.spoke(other)
    clock.advance(LEAST_SECONDS - 0.01)
    assert not a.ended(left)


@given(seconds=st.floats(0.001, LEAST_SECONDS - 0.001))
def test_a_caller_that_gives_up_soon_proves_nothing(seconds: float):
    clock, a, b = fleet()
    for _ in range(10):
        left = a.asked()
        b.spoke(b.asked())
        clock.advance(seconds)
        assert not a.ended(left)


def test_where_first_messages_take_long_so_does_patience():
    clock, a, b = fleet()
    for _ in range(KEPT):
        slow = b.asked()
        clock.advance(4.0)
        b.spoke(slow)
    left = a.asked()
    b.spoke(b.asked())
    clock.advance(11.9)
    assert not a.too_long
    clock.advance(0.2)
    assert a.ended(left)


def test_a_replica_that_came_back_from_a_hang_gives_others_no_leave_to_hang_as_long():
    clock, a, b = fleet()
    for _ in range(KEPT):
        hung = b.asked()
        clock.advance(300.0)
        b.spoke(hung)
    left = a.asked()
    b.spoke(b.asked())
    clock.advance(ALONE_SECONDS)
    assert a.ended(left)


async def given_up(generator: ReplicatedGenerator, replica: Replica, clock: ManualClock, seconds: float) -> None:
    """A request that its caller gives up after so long without a word."""
    asked = asyncio.create_task(answer(generator, version=VERSION))
    async with asyncio.timeout(SECONDS):
        await replica.stopped.wait()
        clock.advance(seconds)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        while replica.stopped.is_set():  # noqa: ASYNC110  # what the far end has ended sets no event
            await asyncio.sleep(0.005)


async def test_a_replica_that_hangs_is_ejected_and_let_back_by_an_answer_alone():
    a, b, clock = Replica("a", holds=(VERSION,)), Replica("b"), ManualClock(100.0)
    a.stops_after = 0
    async with gateway(a, b, clock=clock) as (generator, pool):
        (hangs, _) = pool()
        for _ in range(CONSECUTIVE_FAILURES):
            assert hangs.ejection.usable
            await given_up(generator, a, clock, ALONE_SECONDS)
            # It still counts tokens: its event loop lives.
            await hangs.ask(lambda one: one.size((), "", ""))
        standings = [hangs.ejection.standing]
        assert (await answer(generator, version=VERSION))[1] == "b"
        clock.advance(3.0)
        await hangs.ask(lambda one: one.size((), "", ""))
        standings.append(hangs.ejection.standing)
        a.stops_after = None
        assert (await answer(generator, version=VERSION))[1] == "a"
        assert [*standings, hangs.ejection.standing] == [Standing.EJECTED, Standing.PROBATION, Standing.IN]


async def test_a_replica_is_not_ejected_by_callers_who_do_not_wait():
    a, b, clock = Replica("a", holds=(VERSION,)), Replica("b"), ManualClock(100.0)
    a.stops_after = 0
    async with gateway(a, b, clock=clock) as (generator, pool):
        for _ in range(3 * CONSECUTIVE_FAILURES):
            await given_up(generator, a, clock, 0.05)
        assert pool()[0].ejection.standing is Standing.IN
        a.stops_after = None
        assert (await answer(generator, version=VERSION))[1] == "a"


async def test_nothing_more_is_sent_to_a_replica_while_it_says_nothing():
    a, b, clock = Replica("a", holds=(VERSION,)), Replica("b"), ManualClock(100.0)
    a.stops_after = 0
    async with gateway(a, b, clock=clock) as (generator, _), asyncio.timeout(SECONDS):
        waiting = asyncio.create_task(answer(generator, version=VERSION))
        await a.stopped.wait()
        clock.advance(ALONE_SECONDS)
        assert (await answer(generator, version=VERSION))[1] == "b"
        a.goes_on.set()
        assert (await waiting)[1] == "a"
        assert (await answer(generator, version=VERSION))[1] == "a"


@pytest.mark.parametrize(("actor", "too_long"), [("files", True), ("", False)])
async def test_what_nobody_waits_for_teaches_no_patience(actor: str, too_long: bool):
    a, b, clock = Replica("a", holds=(VERSION,)), Replica("b"), ManualClock(100.0)
    a.stops_after = 0
    async with gateway(a, b, clock=clock) as (generator, pool), asyncio.timeout(SECONDS):
        with serving(replace(CALLER, actor=actor)):
            line = asyncio.create_task(answer(generator, version=VERSION))
        await a.stopped.wait()
        clock.advance(ALONE_SECONDS - 1.0)
        a.goes_on.set()
        assert (await line)[1] == "a"
        silence = pool()[0].silence
        left = silence.asked()
        other = pool()[1].silence
        other.spoke(other.asked())
        clock.advance(LEAST_SECONDS)
        assert silence.ended(left) is too_long


async def test_a_deadline_is_no_answer_that_ends_a_row_of_failures():
    a, b = Replica("a", holds=(VERSION,)), Replica("b")
    async with gateway(a, b, clock=ManualClock(100.0)) as (generator, pool):
        for code in (*[grpc.StatusCode.UNAVAILABLE] * (CONSECUTIVE_FAILURES - 1), grpc.StatusCode.DEADLINE_EXCEEDED):
            a.refuses = code
            async with aclosing(pool()[0].generate(GenerationRequest("p", "id", version=VERSION))) as parts:
                with pytest.raises(Failure) as failed:
                    await anext(parts)
        assert failed.value.reason is Reason.DEADLINE_EXCEEDED
        assert pool()[0].ejection.usable
        a.refuses = grpc.StatusCode.UNAVAILABLE
        assert (await answer(generator, version=VERSION))[1] == "b"
        assert pool()[0].ejection.standing is Standing.EJECTED
