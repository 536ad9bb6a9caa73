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
from services.generator.permissions import Permissions

MANIFEST = json.dumps(
    {"tenant": "owner", "model": "m", "kind": "LORA", "base_digest": "b", "template_digest": "", "files": []}
)
HERE = f"sha256:{hashlib.sha256(MANIFEST.encode()).hexdigest()}"
NOBODY: Any = None
AWAY = Failure(Reason.PEER_UNAVAILABLE, service="registry")


class Registry:
    """Answers, fails, or says nothing at all."""

    def __init__(self):
        self.asked = 0
        self.failure = None
        self.silent = False

    async def facts(self, version):
        self.asked += 1
        if self.silent:
            await asyncio.Event().wait()
        if self.failure:
            raise self.failure
        return VersionFacts(version, MANIFEST)

    async def full_model(self, name):
        return ""


class Local:
    async def kept_facts(self, version):
        return VersionFacts(version, MANIFEST) if version == HERE else None


@pytest.fixture
def world():
    clock = SimpleNamespace(now=0.0)
    registry = Registry()
    permissions = Permissions(registry, Local(), lambda: clock.now, limit_seconds=1000)
    return SimpleNamespace(clock=clock, registry=registry, permissions=permissions)


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


async def test_a_registry_that_says_nothing_is_not_waited_for_again_and_asked_again_later(world, monkeypatch):
    monkeypatch.setattr("services.generator.permissions._PATIENCE_SECONDS", 0.01)
    world.registry.silent = True
    with caller("owner"):
        for _ in range(3):
            await world.permissions.facts(HERE)
        assert world.registry.asked == 1
        world.clock.now = 60.0
        world.registry.silent = False
        await world.permissions.facts(HERE)
    assert world.registry.asked == 2


async def test_what_was_kept_is_believed_for_so_long_and_no_longer(world):
    world.registry.failure = AWAY
    world.clock.now = 1001.0
    with caller("owner"), pytest.raises(Failure) as caught:
        await world.permissions.facts(HERE)
    assert caught.value.reason is Reason.PEER_UNAVAILABLE
