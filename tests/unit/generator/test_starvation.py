"""One tenant's burst of cold adapters takes its share of slots, loads and steps, and no more: virtual time, no engine."""

import asyncio
import random
from contextlib import suppress

import pytest

from services.chassis.errors import Failure, Reason
from services.generator.admission import LOAD_TOKENS, NEW_TOKEN_WEIGHT
from services.generator.residency import Tier
from tests.load.residency import STEP_SECONDS, Served, adapter_of, run, zipf

LONGEST_PROMPT, LONGEST_ANSWER, RUNNING, SLOTS = 64, 24, 8, 4
# What VTC promises of two that wait without a pause, the load before an answer counted with its prompt.
BOUND = 2 * max(LONGEST_PROMPT + LOAD_TOKENS, NEW_TOKEN_WEIGHT * LONGEST_ANSWER * RUNNING)


async def contend(seconds, *, cold_versions, seed=1):
    """A tenant of base traffic, one of two adapters, one that asks for another cold adapter each time."""
    served = await Served(slots=SLOTS, memory=4, running=RUNNING).open()
    loop, draw = asyncio.get_running_loop(), random.Random(seed)
    apart = []

    async def client(tenant, adapter):
        while loop.time() < seconds:
            prompt_tokens, new_tokens = draw.randint(1, LONGEST_PROMPT), draw.randint(1, LONGEST_ANSWER)
            await served.answer(tenant, adapter(), prompt_tokens, new_tokens)

    def cold():
        return adapter_of("cold", draw.randrange(cold_versions))

    clients = [client("base", lambda: None) for _ in range(RUNNING + 2)]
    clients += [client("warm", lambda: adapter_of("warm", draw.randrange(2))) for _ in range(RUNNING + 2)]
    clients += [client("cold", cold) for _ in range(4 * RUNNING)] if cold_versions else []

    async def look():
        names = ["base", "warm"] + (["cold"] if cold_versions else [])
        while loop.time() < seconds:
            await asyncio.sleep(STEP_SECONDS)
            loads = {name: LOAD_TOKENS * served.shared.tallies.of(Tier.SLOT, name).loads for name in names}
            apart.append(max(served.weighted[name] + loads[name] for name in names) - served.weighted["base"])

    await asyncio.gather(look(), *clients)
    await served.close()
    return served, apart


@pytest.mark.sampled(every=3)
@pytest.mark.parametrize("seed", range(3))
def test_nobody_is_served_more_than_the_bound_above_a_tenant_who_could_always_be_served(seed):
    served, above_base = run(contend(60.0, cold_versions=40, seed=seed))
    assert max(above_base) <= BOUND
    assert served.shared.tallies.of(Tier.SLOT, "cold").loads > 100, "the burst was cold"
    # It has one slot for each answer, and waits for the last user of each; all the same it gets about its part.
    assert served.weighted["cold"] > 0.5 * served.weighted["base"]
    assert served.weighted["warm"] > 0.7 * served.weighted["base"]


def test_base_traffic_beside_a_burst_of_cold_adapters_waits_little_longer_than_beside_warm_ones():
    calm, _ = run(contend(60.0, cold_versions=2))
    burst, _ = run(contend(60.0, cold_versions=40))
    assert burst.p99("base") <= 1.5 * calm.p99("base")
    assert burst.weighted["base"] >= 0.7 * calm.weighted["base"]


def test_a_burst_that_fills_the_queue_makes_way_for_tenants_who_have_less_of_it():
    async def flooded():
        served = await Served(slots=2, memory=0, running=2, waiting=20).open()
        refused = []

        async def ask(tenant, adapter):
            try:
                await served.answer(tenant, adapter, 4, 4)
            except Failure as failure:
                refused.append((tenant, failure))

        flood = [asyncio.create_task(ask("flood", adapter_of("flood", number % 30))) for number in range(60)]
        await asyncio.sleep(STEP_SECONDS)
        modest = [asyncio.create_task(ask("modest", None)) for _ in range(5)]
        await asyncio.gather(*flood, *modest)
        await served.close()
        return served, refused

    served, refused = run(flooded())
    assert {tenant for tenant, _ in refused} == {"flood"}
    assert all(failure.reason is Reason.OVERLOADED and failure.retry_after_seconds for _, failure in refused)
    assert len(served.first_tokens["modest"]) == 5


def test_a_queue_full_of_one_tenants_requests_refuses_his_next():
    async def flooded():
        served = await Served(slots=2, memory=0, running=1, waiting=3).open()
        tasks = [asyncio.create_task(served.answer("one", None, 1, 4)) for _ in range(4)]
        await asyncio.sleep(STEP_SECONDS)
        with pytest.raises(Failure) as caught:
            await served.answer("one", None, 1, 4)
        await asyncio.gather(*tasks)
        await served.close()
        return caught.value.reason

    assert run(flooded()) is Reason.OVERLOADED


def test_a_hundred_adapters_by_zipfs_law_over_sixteen_slots_starve_no_tenant():
    found = run(zipf(seconds=60.0))
    assert found.hits["slot"] > 0.35
    assert found.hits["slot"] + found.hits["memory"] > 0.6
    assert found.p99_ratio < 4


def test_a_caller_that_goes_away_while_its_adapter_is_loaded_leaves_the_slot_to_the_next():
    async def leave():
        served = await Served(slots=1, memory=0).open()
        task = asyncio.create_task(served.answer("one", adapter_of("one", 1), 1, 1))
        await asyncio.sleep(0.001)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await served.answer("one", adapter_of("one", 2), 1, 1)
        await served.close()
        return served.places

    places = run(leave())
    assert (places.running, places.waiting) == (0, 0)
    assert [held.stored.version for held in places.residents()] == ["one-2"]
