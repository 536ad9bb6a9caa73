"""What a caller sees of engines and adapters: its own, as they are, and then as they change."""

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

from services.chassis.context import Bearer, RequestContext, Role
from services.chassis.errors import Failure, Reason
from services.generator.accounting import Accounting
from services.generator.holdings import Shared
from services.generator.protection import ProtectedList, Protection
from services.generator.shelf import Shelf
from services.generator.supervision import EngineState
from services.generator.verbs import Verbs
from tests.unit.generator.engines import Quiet, settled, stored
from tests.unit.generator.test_bases import ONE, World


def caller(tenant, *roles):
    return RequestContext(tenant, "p", frozenset(roles or {Role.MEMBER}), Bearer(), "c", None, "m")


OWNER, STRANGER, SERVICE = caller("owner"), caller("stranger"), caller("deployment", Role.SERVICE)


class Open(World):
    """A world with one full model of the owner's, whose engine answers."""

    folder: Path

    async def open(self):
        self.version = self.registry.full("owner", "own", ONE)
        self.full = (await self.find("owner", self.version)).host
        self.pauses = asyncio.Event()
        accounting = Accounting(Shelf(), 1 << 30, Shared())
        listed = ProtectedList(self.folder / "protected.json")
        protection = Protection(listed, self.fleet, self.pool, self.registry, self.registry.as_service, Quiet())
        self.verbs = Verbs(None, self.fleet, self.pool, accounting, protection, self.blocking, self._pause)  # type: ignore[arg-type]  # no answers
        return self

    async def _pause(self, seconds):
        await self.pauses.wait()


@pytest.fixture
async def world(tmp_path):
    opened = Open(tmp_path)
    opened.folder = tmp_path
    await opened.open()
    await settled()
    yield opened
    for life in opened.lives:
        life.cancel()
    await asyncio.gather(*opened.lives, return_exceptions=True)
    await opened.bases.close()


async def test_engines_are_those_of_the_deployment_and_of_the_callers_own_models(world):
    listed = [
        [(view.version, view.facts.base) for view in await world.verbs.engines(who)]
        for who in (OWNER, SERVICE, STRANGER)
    ]
    assert listed[0] == listed[1] == [("", "default"), (world.version, "own")]
    assert listed[2] == [("", "default")]
    default, own = await world.verbs.engines(OWNER)
    assert (default.state, own.state) == (EngineState.READY, EngineState.STOPPED)
    assert own.started_at is None


async def test_the_watch_begins_with_the_present_and_tells_what_changed_once_however_often_it_did(world):
    async with aclosing(world.verbs.changes(OWNER)) as watch:
        first = await anext(watch)
        assert first.caught_up
        assert [view.version for view in first.engines] == ["", world.version]
        slots = world.bases.default.slots
        for _ in range(5):
            async with slots.place("owner", None):
                pass
        async with world.pool.use(world.full, "owner"), slots.place("owner", stored("v", "owner")):
            world.pauses.set()
            changes = await anext(watch)
            assert {(view.version, view.state, view.running) for view in changes.engines} == {
                ("", EngineState.READY, 1),
                (world.version, EngineState.READY, 0),
            }
            assert [held.stored.version for held in changes.entered] == ["v"]
            assert not changes.caught_up
        await slots.unload("v")
        world.pauses.set()
        assert [held.stored.version for held in (await anext(watch)).left] == ["v"]


async def test_the_watch_of_a_stranger_tells_nothing_of_anothers_engine(world):
    async with aclosing(world.verbs.changes(STRANGER)) as watch:
        assert [view.facts.base for view in (await anext(watch)).engines] == ["default"]
        world.pauses.set()
        async with world.pool.use(world.full, "owner"):
            more = asyncio.ensure_future(anext(watch))
            await settled()
            assert not more.done()
            more.cancel()
            await asyncio.gather(more, return_exceptions=True)


async def test_only_an_owner_stops_an_engine(world):
    async with world.pool.use(world.full, "owner"):
        with pytest.raises(Failure) as caught:
            await world.verbs.unload(STRANGER, world.version)
        assert caught.value.reason is Reason.ADAPTER_NOT_RESIDENT
        await world.verbs.unload(OWNER, world.version)
    await settled()
    assert world.pool.state(world.full) is EngineState.STOPPED


async def test_only_an_owner_protects_a_version_and_ends_that_wherever_it_lies(world):
    slots = world.bases.default.slots
    async with slots.place("owner", stored("v", "owner")):
        pass
    for pinned in (True, False):
        with pytest.raises(Failure) as caught:
            await world.verbs.pin(STRANGER, "v", pinned)
        assert caught.value.reason is Reason.ADAPTER_NOT_RESIDENT
    assert (await world.verbs.pin(OWNER, "v", True)).resident.pinned
    assert not (await world.verbs.pin(OWNER, "v", False)).resident.pinned
    await world.verbs.unload(OWNER, "v")
    assert not world.fleet.residents()
    with pytest.raises(Failure) as caught:
        await world.verbs.pin(OWNER, "v", False)
    assert caught.value.reason is Reason.ADAPTER_NOT_RESIDENT


async def test_what_is_protected_is_unloaded_only_after_that_was_ended(world):
    async with world.bases.default.slots.place("owner", stored("v", "owner")):
        pass
    await world.verbs.pin(OWNER, "v", True)
    with pytest.raises(Failure) as caught:
        await world.verbs.unload(OWNER, "v")
    assert caught.value.reason is Reason.VERSION_PROTECTED
    assert "`trivium models protect model-v@v --end`" in caught.value.sentence
    assert [(held.stored.version, held.pinned) for held in world.fleet.residents()] == [("v", True)]
    with pytest.raises(Failure) as caught:
        await world.verbs.unload(STRANGER, "v")
    assert caught.value.reason is Reason.ADAPTER_NOT_RESIDENT, "a stranger learns nothing of it"
    await world.verbs.pin(OWNER, "v", False)
    await world.verbs.unload(OWNER, "v")
    assert not world.fleet.residents()
