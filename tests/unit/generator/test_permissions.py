"""Who may read a version while the registry is away: its owner, from what was kept of it, and nobody else."""

import asyncio
import hashlib
import json
from types import SimpleNamespace
from typing import Any

import pytest

from services.chassis.context import RequestContext, Role, serving
from services.chassis.errors import Failure, Reason
from services.generator.adapter_files import VersionFacts
from services.generator.kept_models import KeptModels
from services.generator.permissions import Permissions
from tests.harness.clock import ManualClock


def manifest(kind, tenant="owner"):
    """A version's manifest and its id."""
    named = {"tenant": tenant, "model": "m", "kind": kind, "base_digest": "sha256:folder", "template_digest": ""}
    text = json.dumps(named | {"files": []})
    return text, f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


MANIFEST, HERE = manifest("LORA")
FULL_MANIFEST, FULL = manifest("FULL")
NOBODY: Any = None
AWAY = Failure(Reason.PEER_UNAVAILABLE, service="registry")


class Registry:
    """Answers, fails, or says nothing at all."""

    def __init__(self):
        self.asked = 0
        self.failure = None
        self.silent = False
        self.names = {}

    async def facts(self, version):
        self.asked += 1
        if self.silent:
            await asyncio.Event().wait()
        if self.failure:
            raise self.failure
        return VersionFacts(version, MANIFEST)

    async def full_model(self, name):
        if self.failure:
            raise self.failure
        return self.names.get(name, "")


class Local:
    async def kept_facts(self, version):
        return VersionFacts(version, MANIFEST) if version == HERE else None


@pytest.fixture
def world(tmp_path):
    clock = ManualClock()
    registry = Registry()
    kept = KeptModels(tmp_path)
    permissions = Permissions(registry, Local(), kept, clock, limit_seconds=1000)
    impatient = Permissions(registry, Local(), kept, clock, limit_seconds=1000, patience_seconds=0.01)
    return SimpleNamespace(clock=clock, registry=registry, permissions=permissions, impatient=impatient, kept=kept)


def caller(tenant, role=Role.MEMBER):
    return serving(RequestContext(tenant, "p", frozenset({role}), NOBODY, "c", None, "m", ""))


async def test_the_registry_is_asked_while_it_answers(world):
    with caller("owner"):
        await world.permissions.facts(HERE)
        await world.permissions.facts(HERE)
    assert world.registry.asked == 2


@pytest.mark.parametrize("tenant", ["owner", "stranger"])
async def test_a_refusal_of_the_registry_counts_whatever_lies_here(world, tenant):
    world.registry.failure = Failure(Reason.VERSION_NOT_FOUND, name=HERE)
    with caller(tenant), pytest.raises(Failure) as caught:
        await world.permissions.facts(HERE)
    assert caught.value.reason is Reason.VERSION_NOT_FOUND


async def test_cut_off_the_owner_and_services_are_served_from_what_was_kept(world):
    world.registry.failure = AWAY
    with caller("owner"):
        assert (await world.permissions.facts(HERE)).manifest == MANIFEST
    with caller("", Role.SERVICE):
        assert (await world.permissions.facts(HERE)).manifest == MANIFEST


async def test_cut_off_another_tenants_version_looks_like_one_that_is_not_here(world):
    world.registry.failure = AWAY
    told = []
    for version in (HERE, "sha256:missing"):
        with caller("stranger"), pytest.raises(Failure) as caught:
            await world.permissions.facts(version)
        told.append(caught.value.reason)
    assert told == [Reason.PEER_UNAVAILABLE] * 2


async def test_a_registry_that_says_nothing_is_not_waited_for_again_and_asked_again_later(world):
    world.registry.silent = True
    with caller("owner"):
        for _ in range(3):
            await world.impatient.facts(HERE)
        assert world.registry.asked == 1
        world.clock.now = 60.0
        world.registry.silent = False
        await world.impatient.facts(HERE)
    assert world.registry.asked == 2


async def test_what_was_kept_is_believed_for_so_long_and_no_longer(world):
    world.registry.failure = AWAY
    world.clock.now = 1001.0
    with caller("owner"), pytest.raises(Failure) as caught:
        await world.permissions.facts(HERE)
    assert caught.value.reason is Reason.PEER_UNAVAILABLE


async def test_cut_off_a_full_model_is_served_like_an_adapter_to_its_owner_and_for_as_long(world):
    world.kept.keep(VersionFacts(FULL, FULL_MANIFEST))
    world.registry.failure = AWAY
    with caller("owner"):
        assert (await world.permissions.facts(FULL)).manifest == FULL_MANIFEST
        assert (await world.permissions.facts(HERE)).base_version == FULL, "the model that the adapter is tied to"
    with caller("stranger"), pytest.raises(Failure) as caught:
        await world.permissions.facts(FULL)
    assert caught.value.reason is Reason.PEER_UNAVAILABLE
    world.clock.now = 1001.0
    with caller("owner"), pytest.raises(Failure) as caught:
        await world.permissions.facts(FULL)
    assert caught.value.reason is Reason.PEER_UNAVAILABLE


async def test_cut_off_a_full_models_name_means_what_it_last_meant_to_this_tenant_and_a_digest_its_own_model(world):
    world.registry.names["house"] = FULL
    with caller("owner"):
        assert await world.permissions.full_model("house") == FULL
    world.registry.failure = AWAY
    with caller("owner"):
        assert await world.permissions.full_model("house") == FULL
        with pytest.raises(Failure) as caught:
            await world.permissions.full_model("sha256:folder")
        assert caught.value.reason is Reason.PEER_UNAVAILABLE
        world.kept.keep(VersionFacts(FULL, FULL_MANIFEST))
        assert await world.permissions.full_model("sha256:folder") == FULL
    for name in ("house", "sha256:folder"):
        with caller("stranger"), pytest.raises(Failure) as caught:
            await world.permissions.full_model(name)
        assert caught.value.reason is Reason.PEER_UNAVAILABLE
    world.registry.failure, world.registry.names = None, {}
    world.clock.now = 60.0
    with caller("owner"):
        assert not await world.permissions.full_model("house"), "what the registry says counts"
    world.registry.failure = AWAY
    with caller("owner"), pytest.raises(Failure):
        await world.permissions.full_model("house")
