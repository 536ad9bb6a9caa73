"""Slots, host memory and files on the real engine, and a generator that is cut off from the registry."""

import pytest
from trivium.generator.v1 import generator_pb2
from trivium.registry.v1 import model_pb2

from tests.generating import QUESTIONS, tenant_of
from tests.stack import eventually, refused


def listed(caller):
    return caller.api.ListAdapters(generator_pb2.ListAdaptersRequest())


def tiers(caller):
    """Tier of each of the caller's adapters."""
    return {adapter.version: adapter.tier for adapter in listed(caller).adapters}


def priorities(caller):
    """Class of each of the caller's adapters."""
    return {adapter.version: adapter.priority for adapter in listed(caller).adapters}


def usage(caller, tier):
    return next(usage for usage in listed(caller).tiers if usage.tier == tier)


@pytest.fixture
def five(served, marks):
    """A tenant of one version more than there are slots, each with its mark; the slots are free."""
    tenant = tenant_of(served)
    adapters = [*marks.adapters, marks.adapters[0]]
    names = [f"five-{number}" for number in range(5)]
    versions = {tenant.publish(name, one, served.base): one for name, one in zip(names, adapters, strict=True)}
    # One adapter for each slot displaces all adapters of other tests, including those that rank higher.
    first = list(versions)[:4]
    tenant.generator.together([("Hello", version) for version in first], max_tokens=1)
    for version in first:
        tenant.generator.api.UnloadAdapter(generator_pb2.UnloadAdapterRequest(version=version))
    return tenant, versions


def answered(tenant, version, adapter):
    answer = tenant.generator.answer("Hello", version, max_tokens=3)
    assert answer.receipt.version_digest == version
    assert set(answer.token_ids) == {adapter.token_id}


def test_what_leaves_a_slot_stays_in_host_memory_and_serves_from_there_as_itself(five):
    tenant, versions = five
    for version, adapter in versions.items():
        answered(tenant, version, adapter)
    held = tiers(tenant.generator)
    assert sorted(held.values()) == [generator_pb2.TIER_MEMORY] + [generator_pb2.TIER_SLOT] * 4
    memory = usage(tenant.generator, generator_pb2.TIER_MEMORY)
    assert (memory.versions, memory.hits) == (1, 0)
    assert 0 < memory.size_bytes <= memory.limit_bytes
    (lowered,) = (version for version, tier in held.items() if tier == generator_pb2.TIER_MEMORY)
    answered(tenant, lowered, versions[lowered])
    assert tiers(tenant.generator)[lowered] == generator_pb2.TIER_SLOT
    assert usage(tenant.generator, generator_pb2.TIER_MEMORY).hits == 1
    assert usage(tenant.generator, generator_pb2.TIER_FILE).versions == 5
    # The base beside them is not touched by any.
    marks = {adapter.token_id for adapter in versions.values()}
    assert not set(tenant.generator.answer(QUESTIONS[0], max_tokens=4).token_ids) & marks
    for version in versions:
        tenant.generator.api.UnloadAdapter(generator_pb2.UnloadAdapterRequest(version=version))
    assert set(tiers(tenant.generator).values()) == {generator_pb2.TIER_FILE}
    assert usage(tenant.generator, generator_pb2.TIER_SLOT).size_bytes == 0


def test_another_tenant_sees_neither_the_adapters_nor_their_bytes(served, five):
    tenant, versions = five
    version, adapter = next(iter(versions.items()))
    answered(tenant, version, adapter)
    stranger = tenant_of(served).generator
    assert not listed(stranger).adapters
    assert all((tier.versions, tier.size_bytes, tier.loads) == (0, 0, 0) for tier in listed(stranger).tiers)
    everybody = served.caller(served.stack.key("service"))
    assert usage(everybody, generator_pb2.TIER_SLOT).versions >= 1


def test_cut_off_from_the_registry_what_is_here_serves_on_and_the_swap_works_when_it_is_back(served, five):
    tenant, versions = five
    (resident, one), (shelved, other), *_ = versions.items()
    for version, adapter in ((resident, one), (shelved, other)):
        answered(tenant, version, adapter)
    tenant.generator.api.UnloadAdapter(generator_pb2.UnloadAdapterRequest(version=shelved))
    never_here = tenant.publish("later", one, served.base)
    stranger = tenant_of(served)
    with served.without_registry():
        answered(tenant, resident, one)
        answered(tenant, shelved, other)
        for caller, version in ((stranger, resident), (tenant, never_here), (tenant, f"sha256:{'0' * 64}")):
            with refused("PEER_UNAVAILABLE"):
                caller.generator.answer("Hello", version)
    tenant.registry.point("later", never_here)
    serves = model_pb2.ALIAS_STATE_SERVING
    eventually(lambda: tenant.registry.alias("later").state == serves, "the target serves", 60)
    # The generator hears of the swap from the registry's stream, a moment after the registry has made it.
    serving = generator_pb2.PRIORITY_SERVING
    eventually(lambda: priorities(tenant.generator).get(never_here) == serving, "the generator hears that it serves")
    with refused("VERSION_NOT_FOUND"):
        stranger.generator.answer("Hello", resident)
