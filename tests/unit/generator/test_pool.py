"""Engines on demand, over engines in memory: single flight, budget, turns, idleness, fairness, death."""

import pytest

from services.chassis.errors import Failure, Reason
from services.generator.supervision import EngineState
from tests.unit.generator.engines import settled, stored
from tests.unit.generator.pools import GIB, world


async def test_many_requests_for_a_cold_engine_start_it_once_and_wait_for_it():
    async with world() as w:
        engine = w.host("a").engine
        assert w.states() == {"a": EngineState.STOPPED}
        engine.starting.clear()
        uses = [w.use("a", tenant) for tenant in "xyz"]
        await settled()
        assert w.states() == {"a": EngineState.STARTING}
        assert not any(use.using.is_set() for use in uses)
        engine.starting.set()
        await settled()
        assert all(use.using.is_set() for use in uses)
        assert engine.starts == 1
        for use in uses:
            await use.end()


async def test_an_idle_engine_is_stopped_after_its_time_and_started_again_when_needed():
    async with world(idle_seconds=100.0) as w:
        engine = w.host("a").engine
        use = w.use("a")
        await settled()
        await w.later(500)
        assert w.states() == {"a": EngineState.READY}, "it is in use"
        await use.end()
        await w.later(99)
        assert w.states() == {"a": EngineState.READY}
        await w.later(2)
        assert w.states() == {"a": EngineState.STOPPED}
        assert not engine.alive
        use = w.use("a")
        await settled()
        assert use.using.is_set()
        await use.end()
        assert engine.starts == 2


async def test_the_longest_idle_engine_makes_room_and_neither_a_busy_one_nor_the_default_does():
    async with world(cold=2) as w:
        for name in "abc":
            w.host(name)
        busy = w.use("a")
        await settled()
        idle = w.use("b")
        await settled()
        await idle.end()
        await w.later(1)
        use = w.use("c")
        await settled()
        assert use.using.is_set()
        assert w.states() == {"a": EngineState.READY, "b": EngineState.STOPPED, "c": EngineState.READY}
        assert w.hosts["base"].engine.alive
        await use.end()
        await busy.end()


async def test_who_finds_every_engine_in_use_waits_for_a_while_and_is_told_to_retry():
    async with world(patience_seconds=30.0) as w:
        w.host("a"), w.host("b")
        busy = w.use("a")
        await settled()
        waiting = w.use("b")
        await settled()
        assert w.states()["b"] is EngineState.QUEUED
        await w.later(29)
        assert not waiting.task.done()
        await w.later(2)
        failure = await waiting.failure()
        assert (failure.reason, bool(failure.retry_after_seconds)) == (Reason.NOT_READY, True)
        assert w.states()["b"] is EngineState.STOPPED
        await busy.end()


async def test_who_waits_gets_the_room_as_soon_as_the_other_engine_is_idle():
    async with world() as w:
        w.host("a"), w.host("b")
        busy = w.use("a")
        await settled()
        waiting = w.use("b")
        await settled()
        await busy.end()
        assert waiting.using.is_set()
        assert w.states() == {"a": EngineState.STOPPED, "b": EngineState.READY}
        await waiting.end()


async def test_an_engine_that_could_never_fit_is_refused_at_once_with_both_numbers():
    async with world() as w:
        w.host("huge", size_bytes=2 * GIB)
        failure = await w.use("huge").failure()
        assert failure.reason is Reason.ENGINE_TOO_LARGE
        assert failure.variables["needed_bytes"] == str(2 * GIB)
        assert w.hosts["huge"].engine.starts == 0


async def test_the_bound_on_engines_counts_the_default_one():
    async with world(cold=5, max_engines=2, patience_seconds=0.0) as w:
        w.host("a"), w.host("b")
        busy = w.use("a")
        await settled()
        waiting = w.use("b")
        await settled()
        await w.later(1)
        assert (await waiting.failure()).reason is Reason.NOT_READY
        await busy.end()


async def test_a_tenant_with_more_engines_lets_one_go_once_it_has_had_its_turn_and_what_runs_there_ends_in_peace():
    async with world(cold=2, turn_seconds=60.0, patience_seconds=300.0) as w:
        for name in "abc":
            w.host(name)
        greedy = [w.use("a", "greedy"), w.use("b", "greedy")]
        await settled()
        waiting = w.use("c", "modest")
        await w.later(50)
        assert EngineState.DRAINING not in w.states().values(), "their turn lasts"
        await w.later(20)
        [closing] = [name for name, state in w.states().items() if state is EngineState.DRAINING]
        newcomer = w.use(closing, "greedy")
        await settled()
        assert not newcomer.using.is_set()
        assert not waiting.using.is_set()
        await greedy["ab".index(closing)].end()
        assert waiting.using.is_set()
        assert not newcomer.using.is_set()
        # The same tenant's other engine, once idle, makes room for the newcomer.
        await greedy[1 - "ab".index(closing)].end()
        assert newcomer.using.is_set()
        await newcomer.end()
        await waiting.end()


async def test_an_equal_never_takes_an_engine_in_use_from_an_equal():
    async with world(turn_seconds=0.0, patience_seconds=10.0) as w:
        w.host("a"), w.host("b")
        mine = w.use("a", "t")
        await settled()
        other = w.use("b", "t")
        await settled()
        await w.later(5)
        assert w.states()["a"] is EngineState.READY
        await w.later(6)
        assert (await other.failure()).reason is Reason.NOT_READY
        await mine.end()


async def test_an_engine_that_was_asked_to_close_opens_again_when_nobody_waits_any_more():
    async with world(turn_seconds=0.0, patience_seconds=300.0) as w:
        w.host("a"), w.host("b")
        running = w.use("a", "x")
        await settled()
        waiting = w.use("b", "y")
        await w.later(1)
        assert w.states()["a"] is EngineState.DRAINING
        newcomer = w.use("a", "x")
        await settled()
        waiting.task.cancel()
        await settled()
        assert w.states()["a"] is EngineState.READY
        assert newcomer.using.is_set()
        await newcomer.end()
        await running.end()


async def test_starts_take_turns():
    async with world(cold=2) as w:
        w.host("a").engine.starting.clear()
        w.host("b")
        uses = [w.use("a"), w.use("b")]
        await settled()
        assert w.states() == {"a": EngineState.STARTING, "b": EngineState.QUEUED}
        w.hosts["a"].engine.starting.set()
        await settled()
        assert w.states() == {"a": EngineState.READY, "b": EngineState.READY}
        for use in uses:
            await use.end()


async def test_one_tenants_cold_engine_holds_up_nobody_elses_hot_one():
    async with world(cold=2) as w:
        w.host("a"), w.host("b")
        hot = w.use("a", "x")
        await settled()
        w.hosts["b"].engine.starting.clear()
        cold = [w.use("b", "y") for _ in range(5)]
        await settled()
        for name in ("a", "base"):
            use = w.use(name, "z")
            await settled()
            assert use.using.is_set()
            await use.end()
        w.hosts["b"].engine.starting.set()
        await settled()
        for use in (*cold, hot):
            await use.end()


async def test_a_tenant_fills_at_most_half_of_the_waiting_room():
    async with world(max_waiting=4) as w:
        w.host("a").engine.starting.clear()
        greedy = [w.use("a", "greedy") for _ in range(3)]
        await settled()
        assert (await greedy[2].failure()).reason is Reason.OVERLOADED
        others = [w.use("a", "modest") for _ in range(2)]
        await settled()
        late = w.use("a", "late")
        assert (await late.failure()).reason is Reason.OVERLOADED
        w.hosts["a"].engine.starting.set()
        await settled()
        for use in (*greedy[:2], *others):
            await use.end()


async def test_an_engine_that_does_not_start_is_tried_twice_and_says_why_and_the_default_serves_on():
    async with world() as w:
        engine = w.host("bad").engine
        engine.unstartable = "no such architecture"
        failure = await w.use("bad").failure()
        assert failure.reason is Reason.NOT_READY
        assert "no such architecture" in failure.sentence
        assert engine.starts == 2
        assert w.states() == {"bad": EngineState.FAILED}
        again = await w.use("bad").failure()
        assert again.retry_after_seconds
        assert engine.starts == 2, "not at once again"
        assert w.hosts["base"].ready
        engine.unstartable = ""
        await w.later(60)
        use = w.use("bad")
        await settled()
        assert use.using.is_set()
        assert w.states() == {"bad": EngineState.READY}
        await use.end()


async def test_the_death_of_one_engine_is_nothing_to_another_and_it_comes_back_with_what_it_held():
    async with world(cold=2) as w:
        w.host("a"), w.host("b")
        uses = [w.use("a"), w.use("b")]
        await settled()
        await w.hosts["a"].slots.warm("t", stored("v"))
        life = w.hosts["a"].slots.life
        w.hosts["a"].engine.dead.set()
        await w.hosts["a"].next_life(life)
        assert set(w.hosts["a"].engine.held.values()) == {"v"}
        assert (w.hosts["a"].supervisor.restarts, w.hosts["b"].supervisor.restarts) == (1, 0)
        assert w.hosts["b"].engine.starts == 1
        for use in uses:
            await use.end()


async def test_an_engine_that_dies_while_it_closes_takes_nothing_new_when_it_is_back():
    async with world(turn_seconds=0.0, patience_seconds=300.0) as w:
        w.host("a"), w.host("b")
        running = w.use("a", "x")
        await settled()
        waiting = w.use("b", "y")
        await settled()
        await w.later(1)
        assert w.states()["a"] is EngineState.DRAINING
        newcomer = w.use("a", "x")
        await settled()
        w.hosts["a"].engine.dead.set()
        await settled()
        assert w.hosts["a"].supervisor.restarts == 1
        assert not newcomer.using.is_set()
        await running.end()
        assert waiting.using.is_set()
        newcomer.task.cancel()
        await waiting.end()


async def test_who_outlives_an_engine_that_does_not_come_back_is_told_so():
    async with world() as w:
        host = w.host("a")
        use = w.use("a")
        await settled()
        life = host.slots.life
        host.engine.unstartable = "the disk is gone"
        host.engine.dead.set()
        with pytest.raises(Failure) as caught:
            await host.next_life(life)
        assert "the disk is gone" in caught.value.sentence
        assert not w.pool.forget(host), "a request still reckons with it"
        use.task.cancel()
        await settled()
        assert w.pool.state(host) is EngineState.FAILED


async def test_a_released_engine_stops_as_soon_as_it_is_idle():
    async with world() as w:
        host = w.host("a")
        use = w.use("a")
        await settled()
        w.pool.release(host)
        await settled()
        assert host.ready
        await use.end()
        assert w.states() == {"a": EngineState.STOPPED}


async def test_what_an_engine_held_is_forgotten_when_it_stops():
    async with world(idle_seconds=10.0) as w:
        host = w.host("a")
        use = w.use("a")
        await settled()
        await host.slots.warm("t", stored("v"))
        await use.end()
        await w.later(11)
        assert not host.slots.residents()
        use = w.use("a")
        await settled()
        assert not host.engine.held
        await use.end()


async def test_a_host_that_was_forgotten_is_refused_and_one_that_runs_is_not_forgotten():
    async with world() as w:
        host = w.host("a")
        use = w.use("a")
        await settled()
        assert not w.pool.forget(host)
        await use.end()
        w.pool.release(host)
        await settled()
        assert w.pool.forget(host)
        assert (await w.use("a").failure()).reason is Reason.NOT_READY
