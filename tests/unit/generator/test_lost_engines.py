"""What becomes of answers, and of the engine, when it dies under them."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from services.chassis.errors import Failure, Reason
from services.generator.asking import More, Opening
from services.generator.supervision import EngineState
from tests.unit.generator.answering import World, ask
from tests.unit.generator.engines import settled


@asynccontextmanager
async def supervised(world):
    supervisor = world.host.supervisor
    world.host.life = life = asyncio.create_task(supervisor.run())
    await settled()
    yield supervisor
    life.cancel()
    await asyncio.gather(life, return_exceptions=True)
    assert supervisor.state is EngineState.DRAINING


async def test_a_dead_engine_is_rebuilt_with_what_it_held_and_who_had_heard_something_is_told_to_retry():
    world = World()
    async with supervised(world) as supervisor:
        await retried(world, supervisor, world.states)


async def retried(world, supervisor, states):
    await world.run(version="v")
    world.engine.gate.clear()
    parts = world.verb.answer(ask(version="v"), "tenant")
    assert isinstance(await anext(parts), Opening)
    assert isinstance(await anext(parts), More)
    world.engine.dead.set()
    with pytest.raises(Failure) as caught:
        await anext(parts)
    assert caught.value.reason is Reason.NOT_READY
    assert caught.value.retry_after_seconds
    world.engine.gate.set()
    await settled()
    assert (supervisor.state, supervisor.restarts, world.engine.starts) == (EngineState.READY, 1, 2)
    assert set(world.engine.held.values()) == {"v"}
    assert states[0] is False
    assert states[-1] is True
    assert (await world.run(version="v"))[-1].opening.attestation.version == "v"


async def test_who_had_heard_nothing_is_answered_by_the_next_engine():
    world = World()
    async with supervised(world) as supervisor:
        world.engine.prompts.clear()
        asked = [asyncio.create_task(world.run(version=version)) for version in ("v", "v", "")]
        await settled()
        world.engine.dead.set()
        await settled()
        assert not any(task.done() for task in asked)
        world.engine.prompts.set()
        for parts, version in zip(await asyncio.gather(*asked), ("v", "v", ""), strict=True):
            assert [part.text for part in parts[1:-1]] == ["a", "b"]
            assert (parts[-1].opening.attestation.version, parts[-1].completion_tokens) == (version, 2)
            assert "rebuild" in [stage.name for stage in parts[-1].stages]
        assert supervisor.restarts == 1
    assert len(world.counted) == 3


async def test_who_loses_two_engines_is_told_to_retry():
    world = World()
    async with supervised(world):
        world.engine.prompts.clear()
        asked = asyncio.create_task(world.run())
        for _ in range(2):
            await settled()
            world.engine.dead.set()
        with pytest.raises(Failure) as caught:
            await asked
        assert caught.value.reason is Reason.NOT_READY
    assert not world.counted


async def test_a_version_that_kills_its_engine_twice_is_refused_and_the_others_are_served():
    world = World()
    async with supervised(world) as supervisor:
        world.engine.deadly.add("poison")
        with pytest.raises(Failure) as caught:
            await world.run(version="poison")
        assert caught.value.reason is Reason.NOT_READY
        await settled()
        assert supervisor.restarts == 2
        with pytest.raises(Failure) as caught:
            await world.run(version="poison")
        assert caught.value.reason is Reason.WEIGHTS_REFUSED
        assert "died 2 times" in caught.value.sentence
        assert (await world.run(version="v"))[-1].opening.attestation.version == "v"
        assert supervisor.restarts == 2
