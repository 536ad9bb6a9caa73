"""Who cannot be answered in time is told so at once, as the engine's last answers took; nobody else is."""

import asyncio
import random
from contextlib import suppress
from typing import Any

import pytest

from services.chassis.errors import Failure, Reason
from services.generator.forecast import MARGIN, Course, Forecast, Line, Wanted
from services.generator.places import Limits, Slots
from tests.harness.clock import ManualClock
from tests.unit.generator.engines import MemoryEngine


class Engine:
    """One whose steps take longer the more it does: what it answers is told to a forecast, in simulated seconds."""

    def __init__(self, *, places: int = 32, base: float = 0.02, each: float = 0.01, read: float = 0.002) -> None:
        self.now = 0.0
        self.base, self.each, self.read = base, each, read
        self.forecast = Forecast(lambda: self.now, places)

    def run(self, together: int, *, prompt_tokens: int = 50, tokens: int = 20) -> float:
        """So many answers at once; returns how long each took."""
        began = self.now
        courses = [self.forecast.begin(Wanted(prompt_tokens, 1, tokens)) for _ in range(together)]
        self.now += self.base + self.read * prompt_tokens * together
        for course in courses:
            self.forecast.heard(course, 1)
        for _ in range(tokens - 1):
            self.now += self.base + self.each * together
            for course in courses:
                self.forecast.heard(course, 1)
        for course in courses:
            self.forecast.end(course)
        return self.now - began

    def wanted(self, seconds: float, tokens: int = 20) -> Wanted:
        return Wanted(50, 1, tokens, self.now + seconds)


@pytest.fixture
def engine() -> Engine:
    """That has answered one, two, … eight at a time for a while."""
    made = Engine()
    for together in [*range(1, 9)] * 5:
        made.run(together)
    return made


def refused(engine: Engine, wanted: Wanted, ahead: int = 0) -> Failure | None:
    try:
        engine.forecast.require_in_time(wanted, ahead)
    except Failure as failure:
        return failure
    return None


def test_a_line_goes_through_what_it_saw_never_falls_and_forgets() -> None:
    line = Line()
    assert line.at(5.0) == 0.0
    for x in [1.0, 4.0, 9.0, 16.0] * 100:
        line.add(x, 2.0 + 3.0 * x)
    assert line.at(30.0) == pytest.approx(92.0, rel=0.1)
    for x in [1.0, 4.0, 9.0, 16.0] * 100:
        line.add(x, 50.0 - 3.0 * x)
    assert line.at(0.0) == line.at(1000.0) == pytest.approx(27.5, rel=0.1)


def test_observations_that_lie_together_tell_no_slope() -> None:
    line, draw = Line(), random.Random(3)
    for _ in range(500):
        line.add(draw.choice([10.0, 10.0, 10.1]), 1.0 + draw.random())
    assert line.at(100.0) < 3.0


def test_the_forecast_of_one_more_is_near_what_it_takes(engine: Engine) -> None:
    courses = [engine.forecast.begin(Wanted(50, 1, 20)) for _ in range(5)]
    expected = engine.forecast.seconds(engine.wanted(100.0), 0)
    for course in courses:
        engine.forecast.end(course)
    assert expected == pytest.approx(engine.run(6), rel=0.25)


def test_who_cannot_be_answered_in_time_is_told_when_to_come_back(engine: Engine) -> None:
    courses = [engine.forecast.begin(Wanted(50, 1, 20)) for _ in range(8)]
    expected = engine.forecast.seconds(engine.wanted(100.0), 0)
    assert refused(engine, engine.wanted(1.1 * MARGIN * expected)) is None
    failure = refused(engine, engine.wanted(0.9 * MARGIN * expected))
    assert failure is not None
    assert failure.reason is Reason.TOO_BUSY_FOR_DEADLINE
    assert failure.retry_after_seconds
    assert f"{MARGIN * expected:.2g} s" in failure.sentence
    for course in courses:
        engine.forecast.end(course)


def test_an_engine_with_nothing_to_do_refuses_nobody(engine: Engine) -> None:
    assert refused(engine, engine.wanted(0.001)) is None
    course = engine.forecast.begin(Wanted(50, 1, 20))
    assert refused(engine, engine.wanted(0.001))
    engine.forecast.end(course)
    assert refused(engine, engine.wanted(0.001)) is None


def test_nobody_is_refused_who_states_no_deadline_or_whose_deadline_has_passed(engine: Engine) -> None:
    for _ in range(200):
        engine.forecast.begin(Wanted(50, 1, 20))
    assert refused(engine, Wanted(50, 1, 20), ahead=500) is None
    assert refused(engine, engine.wanted(-1.0), ahead=500) is None
    assert refused(engine, engine.wanted(1.0), ahead=500)


def test_an_engine_that_has_answered_nothing_yet_refuses_nobody() -> None:
    engine = Engine()
    engine.forecast.begin(Wanted(50, 1, 20))
    assert refused(engine, engine.wanted(0.01)) is None


def test_one_whose_steps_take_no_longer_in_company_refuses_nobody_for_company() -> None:
    engine = Engine(each=0.0, read=0.00001)
    for together in [1, 1, 2, 1, 3] * 20:
        engine.run(together)
    alone = engine.run(1)
    for _ in range(20):
        engine.forecast.begin(Wanted(50, 1, 20))
    assert refused(engine, engine.wanted(2 * alone)) is None


def test_those_ahead_count_by_the_places_that_come_free(engine: Engine) -> None:
    alone = engine.forecast.seconds(engine.wanted(100.0), 0)
    assert engine.forecast.seconds(engine.wanted(100.0), 64) > engine.forecast.seconds(engine.wanted(100.0), 32) > alone


def test_the_pace_of_long_answers_is_known_before_they_end() -> None:
    engine = Engine()
    for _ in range(20):
        engine.run(1, tokens=200)
    courses = [engine.forecast.begin(Wanted(50, 1, 200)) for _ in range(30)]
    before = engine.forecast.seconds(engine.wanted(100.0, 200), 0)
    for _ in range(40):
        engine.now += 0.02 + 0.01 * 30
        for course in courses:
            engine.forecast.heard(course, 1)
    assert engine.forecast.seconds(engine.wanted(100.0, 200), 0) > 3 * before


def good_of_a_minute(
    rate: float, *, waits_seconds: float, tokens: int = 4, leaving: bool = False, after_seconds: float = 0.0
) -> int:
    """How many of those that arrive at a constant rate have their answers in time; ``leaving`` ones go when it has passed."""
    engine, arrivals, good = Engine(base=0.05, each=0.005, read=0.003), 0, 0
    running: list[list[Any]] = []
    while engine.now < after_seconds + 60.0:
        while arrivals / rate <= engine.now:
            arrived = arrivals / rate
            arrivals += 1
            wanted = Wanted(60, 1, tokens, arrived + waits_seconds)
            if refused(engine, wanted) is None:
                running.append([arrived, 0, engine.forecast.begin(wanted)])
        fresh = sum(not made for _, made, _ in running)
        engine.now += engine.base + engine.each * len(running) + engine.read * 60 * fresh
        for answer in running:
            answer[1] += 1
            engine.forecast.heard(answer[2], 1)
        left = []
        for answer in running:
            arrived, made, course = answer
            in_time = engine.now - arrived <= waits_seconds
            if made == tokens or (leaving and not in_time):
                engine.forecast.end(course, whole=made == tokens)
                good += made == tokens and in_time and engine.now >= after_seconds
            else:
                left.append(answer)
        running = left
    return good


@pytest.mark.parametrize("waits_seconds", [1.5, 3.0, 10.0])
def test_twice_what_it_can_answer_leaves_it_as_useful_as_all_that_it_can(waits_seconds: float) -> None:
    # 4.7 a second are what it can do.
    full = good_of_a_minute(4.5, waits_seconds=waits_seconds)
    assert full > 230
    assert good_of_a_minute(9.0, waits_seconds=waits_seconds) >= 0.9 * full


@pytest.mark.parametrize("tokens", [2, 4, 8, 16])
@pytest.mark.parametrize("waits_seconds", [3.0, 10.0])
def test_nor_does_it_where_callers_leave_at_their_deadlines(waits_seconds: float, tokens: int) -> None:
    # Of the second minute: in the first it finds out what it can do.
    full, twice = (
        good_of_a_minute(rate, waits_seconds=waits_seconds, tokens=tokens, leaving=True, after_seconds=60.0)
        for rate in (4.5, 9.0)
    )
    assert full > 100
    assert twice >= 0.9 * full


def test_an_answer_that_was_given_up_makes_no_later_one_seem_short(engine: Engine) -> None:
    before = engine.forecast.seconds(engine.wanted(100.0), 0)
    for _ in range(100):
        course = engine.forecast.begin(Wanted(50, 1, 20))
        engine.now += engine.base + engine.read * 50
        engine.forecast.heard(course, 1)
        engine.forecast.end(course, whole=False)
    assert engine.forecast.seconds(engine.wanted(100.0), 0) == pytest.approx(before, rel=0.25)


def test_who_is_silent_still_and_who_was_given_up_are_counted_too(engine: Engine) -> None:
    silent = engine.forecast.begin(Wanted(50, 1, 20))
    before = engine.forecast.seconds(engine.wanted(100.0), 0)
    engine.now += 30.0
    assert engine.forecast.seconds(engine.wanted(100.0), 0) > 30.0 > before
    engine.forecast.end(silent)
    assert engine.forecast.running == 0
    assert engine.forecast.seconds(engine.wanted(100.0), 0) < 10.0


def test_of_those_that_are_all_given_up_before_their_first_token_more_are_not_begun() -> None:
    engine = Engine()
    for together in [1, 2, 3] * 10:
        engine.run(together)
    # It has become ten times as slow, and nobody waits for so long.
    begun = 0
    for _ in range(200):
        courses = []
        for _ in range(5):
            wanted = engine.wanted(1.0)
            if refused(engine, wanted) is None:
                courses.append(engine.forecast.begin(wanted))
        engine.now += 1.0
        begun += len(courses)
        for course in courses:
            engine.forecast.end(course)
    # One at a time is always let in.
    assert begun < 260


def test_nobody_is_refused_for_the_length_of_others_answers_nor_of_its_own_of_long_ago(engine: Engine) -> None:
    for _ in range(20):
        engine.forecast.end(heard(engine, "long", 2000))
    short = Wanted(50, 1, 4096, engine.now + 30.0)
    running = engine.forecast.begin(Wanted(50, 1, 2000), "long")
    engine.forecast.heard(running, 1)
    engine.forecast.require_in_time(short, 0, "short")
    with pytest.raises(Failure):
        engine.forecast.require_in_time(short, 0, "long")
    for _ in range(5):
        engine.forecast.end(heard(engine, "mixed", 2000))
        engine.forecast.end(heard(engine, "mixed", 50))
    engine.forecast.require_in_time(Wanted(50, 1, 4096, engine.now + 30.0), 0, "mixed")
    engine.now += 100.0
    engine.forecast.require_in_time(Wanted(50, 1, 4096, engine.now + 30.0), 0, "long")


def heard(engine: Engine, tenant: str, tokens: int) -> Course:
    """An answer of so many tokens that is about to end, at the pace of a thousand in a second: of no steps to speak of."""
    course = engine.forecast.begin(Wanted(50, 1, 4096), tenant)
    engine.forecast.heard(course, 1)
    engine.now += 0.4
    engine.forecast.heard(course, tokens - 1)
    return course


def test_what_the_engine_does_last_tells_nothing_of_how_long_others_wait(engine: Engine) -> None:
    before = engine.forecast.seconds(engine.wanted(100.0), 0)
    held = engine.forecast.begin(Wanted(5000, 1, 20), "batch", background=True)
    engine.now += 30.0
    assert engine.forecast.running == 1
    assert engine.forecast.seconds(engine.wanted(100.0), 0) < before + 1.0
    engine.forecast.heard(held, 1)
    engine.forecast.end(held)
    assert engine.forecast.running == 0
    assert engine.forecast.seconds(engine.wanted(100.0), 0) == pytest.approx(before)


async def slow_slots(places: int) -> tuple[Slots, ManualClock]:
    """Slots of an engine that took ten seconds for its one answer, and the time, which is moved by hand."""
    clock = ManualClock()
    memory = MemoryEngine(2)
    await memory.start()
    slots = Slots(memory, Limits(places, 16, 0.0), clock)
    await slots.resume([])
    async with slots.place("a", None, Wanted(10, 1, 5)) as place:
        clock.advance(10.0)
        slots.charge("a", place, 1)
    return slots, clock


async def test_the_places_ask_it_before_anybody_waits() -> None:
    slots, clock = await slow_slots(1)
    async with slots.place("a", None, Wanted(10, 1, 5, deadline=clock.now + 1.0)):
        with pytest.raises(Failure) as failure:
            async with slots.place("b", None, Wanted(10, 1, 5, deadline=clock.now + 1.0)):
                pass
        assert failure.value.reason is Reason.TOO_BUSY_FOR_DEADLINE
        assert (slots.running, slots.waiting) == (1, 0)


async def test_who_leaves_a_place_before_its_answer_has_ended_makes_no_answer_seem_short() -> None:
    clock = ManualClock()
    memory = MemoryEngine(2)
    await memory.start()
    slots = Slots(memory, Limits(8, 16, 0.0), clock)
    await slots.resume([])

    async def answered(tokens: int, *, leaving: bool) -> None:
        with suppress(asyncio.CancelledError):
            async with slots.place("a", None, Wanted(10, 1, 5)) as place:
                for _ in range(tokens):
                    clock.advance(1.0)
                    slots.charge("a", place, 1)
                if leaving:
                    raise asyncio.CancelledError

    for _ in range(3):
        await answered(5, leaving=False)
    for _ in range(20):
        await answered(1, leaving=True)
    async with slots.place("a", None, Wanted(10, 1, 5)):
        with pytest.raises(Failure) as failure:
            slots.require_in_time("a", Wanted(10, 1, 5, deadline=clock.now + 4.0))
        assert failure.value.reason is Reason.TOO_BUSY_FOR_DEADLINE


async def test_what_nobody_waits_for_is_never_refused_for_its_deadline() -> None:
    slots, clock = await slow_slots(8)
    wanted = Wanted(10, 1, 5, deadline=clock.now + 1.0)
    async with slots.place("a", None, wanted), slots.place("a", None, wanted, background=True):
        assert slots.running == 2


def test_the_loading_of_a_version_tells_nothing_of_how_long_a_prompt_takes(engine: Engine) -> None:
    before = engine.forecast.seconds(engine.wanted(100.0), 0)
    for _ in range(50):
        engine.forecast.end(engine.forecast.begin(Wanted()))
    loading = engine.forecast.begin(Wanted())
    engine.now += 5.0
    assert engine.forecast.seconds(engine.wanted(100.0), 0) < before + 1.0
    engine.forecast.end(loading)
    assert engine.forecast.seconds(engine.wanted(100.0), 0) == pytest.approx(before)
