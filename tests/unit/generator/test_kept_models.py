"""What is kept of full models for when the registry is away: over restarts, bounded, and no longer than they exist."""

import asyncio

import pytest

from services.chassis.context import Bearer, RequestContext, Role, serving
from services.chassis.errors import Failure, Reason
from services.generator.departures import Departures
from services.generator.kept_models import KeptModels
from services.generator.permissions import Permissions
from tests.unit.generator.engines import Quiet, settled
from tests.unit.generator.test_bases import ONE, TWO, Registry, World


class Away:
    """A registry that cannot be reached."""

    async def facts(self, version):
        raise Failure(Reason.PEER_UNAVAILABLE, service="registry")

    full_model = facts


class Nothing:
    """No adapter lies here."""

    async def kept_facts(self, version):
        return None


async def ended(world):
    for life in world.lives:
        life.cancel()
    await asyncio.gather(*world.lives, return_exceptions=True)
    await world.bases.close()


async def test_a_generator_that_starts_cut_off_finds_the_full_model_and_its_adapters_base_on_its_own_disk(tmp_path):
    before = World(tmp_path)
    version = before.registry.full("owner", "own", ONE)
    adapter = before.registry.adapter("owner", "desk", ONE.digest(), version)
    await before.find("owner", version)
    facts = before.registry.facts_by_version[adapter]
    await ended(before)
    world = World(tmp_path)
    permissions = Permissions(Away(), Nothing(), world.kept, lambda: 0.0, 1000)
    with serving(RequestContext("owner", "p", frozenset({Role.MEMBER}), Bearer(), "c", None, "m")):
        target = await world.bases.find(permissions, version, "")
        assert (target.host.digest, target.version, target.model) == (ONE.digest(), version, "own")
        assert world.registry.downloads == 0
        other = await world.bases.of(permissions, facts)
        assert (other.host, other.version) == (target.host, adapter)
    with serving(RequestContext("stranger", "p", frozenset({Role.MEMBER}), Bearer(), "c", None, "m")):
        with pytest.raises(Failure) as caught:
            await world.bases.find(permissions, version, "")
        assert caught.value.reason is Reason.PEER_UNAVAILABLE
    await ended(world)


async def test_nothing_is_kept_of_a_deleted_model_and_everything_while_the_registry_is_away(tmp_path):
    world = World(tmp_path)
    gone, stays = world.registry.full("owner", "gone", ONE), world.registry.full("owner", "stays", TWO)
    for version in (gone, stays):
        world.kept.keep(world.registry.facts_by_version[version])

    class Catalog:
        away = True
        as_service = world.registry.as_service

        async def facts(self, version):
            raise Failure(Reason.PEER_UNAVAILABLE if self.away else Reason.VERSION_NOT_FOUND, name=version, service="r")

    catalog = Catalog()
    await world.find("owner", stays)
    departures = Departures(catalog, world.pool, world.kept, Quiet(), 3600.0)
    with pytest.raises(Failure):
        await departures.forget_deleted()
    assert set(world.kept.versions()) == {gone, stays}
    catalog.away = False
    await departures.forget_deleted()
    assert world.kept.versions() == []
    again = KeptModels(tmp_path / "kept")
    again.begin()
    assert again.versions() == []
    await settled()
    await ended(world)


def test_so_many_are_kept_the_longest_kept_goes_and_what_is_damaged_is_left_out(tmp_path):
    registry, kept = Registry(), KeptModels(tmp_path / "kept", limit=2)
    versions = [registry.full("owner", f"m{number}", ONE) for number in range(3)]
    for version in versions:
        kept.keep(registry.facts_by_version[version])
    assert kept.versions() == versions[1:]
    (tmp_path / "kept" / f"{versions[1][7:]}.json").write_text("{}")
    (tmp_path / "kept" / f"{'0' * 64}.json").write_text((tmp_path / "kept" / f"{versions[2][7:]}.json").read_text())
    again = KeptModels(tmp_path / "kept")
    again.begin()
    assert again.versions() == versions[2:]
    assert again.of_folder("owner", ONE.digest()) == versions[2]
    assert again.of_folder("stranger", ONE.digest()) == ""


def test_a_disk_that_takes_no_more_costs_no_call(tmp_path):
    registry = Registry()
    version = registry.full("owner", "own", ONE)
    (tmp_path / "kept").write_text("no folder")
    kept = KeptModels(tmp_path / "kept")
    kept.keep(registry.facts_by_version[version])
    assert kept.versions() == [version]
