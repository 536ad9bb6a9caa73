"""When an engine counts as hung: silence while something is asked of it, and nothing else."""

import asyncio
from contextlib import ExitStack

from services.generator.engine import EngineLost, EngineRefused
from services.generator.stalls import Pulse
from tests.unit.generator.engines import settled

STALL_SECONDS = 8.0


class Watched:
    """An engine's pulse on a clock that moves when it is moved; ``answers`` says whether its loop goes round."""

    def __init__(self, stall_seconds=STALL_SECONDS):
        self.now = 0.0
        self.alive = True
        self.questions = 0
        self.answers = asyncio.Event()
        self.failure = None
        self._looks = asyncio.Semaphore(0)
        self.pulse = Pulse(stall_seconds, self._question, lambda: self.now, self._pause)
        self.verdict = asyncio.create_task(self.pulse.stalled(lambda: self.alive))

    async def _pause(self, seconds):
        await self._looks.acquire()

    async def _question(self):
        self.questions += 1
        with self.pulse.asked():
            await self.answers.wait()
            if self.failure is not None:
                raise self.failure

    async def pass_time(self, seconds, step=0.5):
        await settled()
        for _ in range(int(seconds / step)):
            self.now += step
            self._looks.release()
            await settled()

    async def end(self):
        self.alive = False
        self._looks.release()
        assert await self.verdict is False


async def test_an_engine_that_is_asked_and_says_nothing_hangs():
    watched = Watched()
    with watched.pulse.asked():
        await watched.pass_time(STALL_SECONDS - 0.5)
        assert not watched.verdict.done()
        assert watched.questions == 1
        await watched.pass_time(0.5)
    assert await watched.verdict is True
    assert watched.pulse.silent_seconds == STALL_SECONDS


async def test_a_prompt_of_many_steps_is_no_silence_and_neither_is_a_question_that_is_refused():
    for failure in (None, EngineRefused("no")):
        watched = Watched()
        watched.failure = failure
        watched.answers.set()
        with watched.pulse.asked():
            await watched.pass_time(10 * STALL_SECONDS)
        assert not watched.verdict.done()
        assert watched.questions > 10
        await watched.end()


async def test_whatever_comes_ends_the_silence():
    watched = Watched()
    with watched.pulse.asked():
        for _ in range(4):
            await watched.pass_time(STALL_SECONDS - 0.5)
            watched.pulse.heard()
    assert not watched.verdict.done()
    await watched.end()


async def test_an_engine_that_nobody_uses_may_be_silent_and_is_asked_nothing():
    watched = Watched()
    await watched.pass_time(10 * STALL_SECONDS)
    assert not watched.verdict.done()
    assert not watched.questions
    await watched.end()


async def test_callers_that_give_up_sooner_than_that_do_not_hide_it():
    watched = Watched()
    for _ in range(3):
        with watched.pulse.asked():
            await watched.pass_time(1.0)
        await watched.pass_time(1.0)
    # The question is left of the first of them.
    await watched.pass_time(3.0)
    assert await watched.verdict is True


async def test_time_in_which_this_process_did_not_run_itself_is_not_counted():
    watched = Watched()
    with watched.pulse.asked():
        await watched.pass_time(3600.0, step=3600.0)
        assert watched.pulse.silent_seconds <= 1.0
    assert not watched.verdict.done()
    await watched.end()


async def test_an_engine_that_dies_is_dead_and_not_hung():
    watched = Watched()
    with ExitStack() as asked:
        asked.enter_context(watched.pulse.asked())
        await watched.pass_time(STALL_SECONDS - 0.5)
        watched.failure = EngineLost("dead")
        watched.answers.set()
        await settled()
        assert watched.pulse.silent_seconds > 1
        await watched.end()


async def test_the_watch_can_be_switched_off():
    watched = Watched(0.0)
    with watched.pulse.asked():
        await watched.pass_time(100.0)
    assert not watched.verdict.done()
    assert not watched.questions
    await watched.end()
