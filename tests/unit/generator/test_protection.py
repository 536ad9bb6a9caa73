"""Protected versions outlive their engine and the process, and leave the list when they are gone for good."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from services.chassis.errors import Failure, Reason
from services.generator.protection import ProtectedList, Protection
from services.generator.supervision import EngineState
from tests.unit.generator.engines import Inline, Quiet, settled
from tests.unit.generator.test_bases import ONE, World


class Open(World):
    """A generator over one folder; a second one over the same folder is the next process."""

    def __init__(self, folder, registry=None):
        super().__init__(folder)
        if registry is not None:
            self.registry.facts_by_version |= registry.facts_by_version
            self.registry.tenant_of |= registry.tenant_of
            self.registry.blobs |= registry.blobs
        self.failure = None
        self.listed = ProtectedList(folder / "protected.json")
        self.listed.begin()
        self.pauses = asyncio.Semaphore(0)
        self.protection = Protection(
            self.listed, self.fleet, self.pool, self, self.registry.as_service, Quiet(), self._pause
        )

    async def _pause(self, seconds):
        await self.pauses.acquire()

    async def facts(self, version):
        if self.failure is not None:
            raise self.failure
        return await self.registry.facts(version)

    async def open(self):
        asyncio.get_running_loop().set_default_executor(Inline())
        self.lives.append(asyncio.create_task(self.protection.run()))
        await settled()
        return self

    async def loaded(self, version):
        prepared = await self.fleet.obtain(await self.registry.facts(version))
        await self.fleet.warm("t", prepared, pending=True)

    async def close(self):
        for life in self.lives:
            life.cancel()
        await asyncio.gather(*self.lives, return_exceptions=True)
        await self.bases.close()

    @property
    def pinned(self):
        return {held.stored.version for held in self.fleet.residents() if held.pinned}


@asynccontextmanager
async def opened(folder, registry=None):
    world = await Open(folder, registry).open()
    try:
        yield world
    finally:
        await world.close()


async def protected(folder):
    """The registry of a process that ended while it protected a version of the default base, and that version."""
    async with opened(folder) as world:
        version = world.registry.adapter("t", "desk", "sha256:default")
        await world.loaded(version)
        await world.protection.protect(version)
        assert world.pinned == {version}
        return world.registry, version


async def test_the_next_process_protects_it_again(tmp_path):
    registry, version = await protected(tmp_path)
    async with opened(tmp_path, registry) as world:
        assert world.pinned == {version}


async def test_while_the_registry_is_away_it_is_tried_again(tmp_path):
    registry, version = await protected(tmp_path)
    world = Open(tmp_path, registry)
    world.failure = Failure(Reason.PEER_UNAVAILABLE, service="registry")
    await world.open()
    assert not world.pinned
    world.failure = None
    world.pauses.release()
    await settled()
    assert world.pinned == {version}
    await world.close()


async def test_what_was_deleted_meanwhile_leaves_the_list(tmp_path):
    registry, version = await protected(tmp_path)
    world = Open(tmp_path, registry)
    world.failure = Failure(Reason.VERSION_NOT_FOUND, name=version)
    await world.open()
    assert not world.pinned
    await world.close()
    async with opened(tmp_path, registry) as world:
        assert not world.pinned


async def test_what_is_tied_to_a_base_that_is_not_served_yet_waits_for_it(tmp_path):
    registry, version = await protected(tmp_path)
    world = Open(tmp_path, registry)
    world.failure = Failure(Reason.BASE_MISMATCH, base="sha256:default", known="other")
    await world.open()
    assert world.listed.all() == {version}
    world.failure = None
    world.pool.add(world.host("sha256:more", "more"))
    await settled()
    assert world.pinned == {version}
    await world.close()


async def test_where_slots_have_become_fewer_it_stays_on_the_list_and_the_others_are_left_alone(tmp_path):
    registry, version = await protected(tmp_path)
    async with opened(tmp_path, registry) as world:
        other = world.registry.adapter("t", "other", "sha256:default")
        await world.loaded(other)
        with pytest.raises(Failure) as caught:
            await world.protection.protect(other)
        assert caught.value.reason is Reason.SLOTS_PROTECTED
        await world.listed.add(other)
        world.bases.default.engine.dead.set()
        await settled()
        assert world.pinned == {version}
        assert world.listed.all() == {version, other}


async def test_an_engine_on_demand_is_given_it_again_when_it_starts_and_is_not_started_for_it(tmp_path):
    async with opened(tmp_path) as world:
        base = world.registry.full("t", "own", ONE)
        version = world.registry.adapter("t", "desk", ONE.digest(), base)
        await world.loaded(version)
        await world.protection.protect(version)
        host = (await world.find("t", version)).host
        world.pool.release(host)
        await settled()
        assert world.pool.state(host) is EngineState.STOPPED
        assert not world.pinned
        async with world.pool.use(host, "t"):
            await settled()
            assert world.pinned == {version}


async def test_protection_that_was_ended_stays_ended(tmp_path):
    registry, version = await protected(tmp_path)
    async with opened(tmp_path, registry) as world:
        assert await world.protection.end(version)
        assert not world.pinned
        assert not await world.protection.end(version)
    async with opened(tmp_path, registry) as world:
        assert not world.pinned


async def test_what_cannot_be_written_is_not_protected(tmp_path):
    async with opened(tmp_path) as world:
        version = world.registry.adapter("t", "desk", "sha256:default")
        await world.loaded(version)
        (tmp_path / "protected.json").mkdir()
        with pytest.raises(IsADirectoryError):
            await world.protection.protect(version)
        assert not world.pinned
        assert not world.listed.all()


def test_a_damaged_list_is_empty(tmp_path):
    (tmp_path / "protected.json").write_text("[1")
    listed = ProtectedList(tmp_path / "protected.json")
    listed.begin()
    assert not listed.all()
