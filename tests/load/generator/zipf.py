"""A thousand registered adapters, a hundred of them asked for by a Zipf law, sixteen slots, four tenants.

Each tenant keeps eight requests going.  The same requests are then put to the base, so the throughput is a ratio; the
generator counts in which tier it found each request's adapter; and a tenant whose adapters are rarer must not wait much
longer than the others.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from trivium.generator.v1 import generator_pb2

from services.chassis.models import ResolvedModel
from tests.generating import QUESTIONS, Served, Tenant, tenant_of
from tests.load.generator import adapters
from tests.load.generator.adapters import Recipe
from tests.load.percentile import percentile

SLOTS, TENANTS, REGISTERED, ASKED_FOR = 16, 4, 1000, 100
_TOGETHER_EACH = 8
_REQUESTS_EACH = 100
_TOKENS = 16
_EXPONENT = 1.0
_RANK = 4
_UPLOADS = 4


@dataclass(frozen=True, slots=True)
class Answered:
    """One request: its tenant's place, seconds from start to end, whether its adapter had to come into a slot first."""

    tenant: int
    seconds: float
    moved: bool
    tokens: int


@dataclass(frozen=True, slots=True)
class Tiers:
    """What the generator counted: requests by the nearest tier that held their adapter, and adapters fetched.

    Whoever waited for a fetch counts as found in the file.
    """

    hits: dict[str, int]
    fetched: int


@dataclass(frozen=True)
class Law:
    """The run with adapters, the run on the base, and what registering took."""

    registered: int
    tiers: Tiers
    adapted: Sequence[Answered]
    base: Sequence[Answered]
    adapted_seconds: float
    base_seconds: float
    registered_per_second: float

    @property
    def throughput_ratio(self) -> float:
        """Tokens a second with adapters over those without."""
        speeds = [
            sum(each.tokens for each in answers) / seconds
            for answers, seconds in ((self.adapted, self.adapted_seconds), (self.base, self.base_seconds))
        ]
        return speeds[0] / speeds[1]

    def hit_rates(self) -> dict[str, float]:
        """Which part of the requests found its adapter in which tier, and none in a nearer one."""
        return {tier: hits / sum(self.tiers.hits.values()) for tier, hits in self.tiers.hits.items()}

    def tenants_p99(self) -> list[float]:
        """Each tenant's p99 of whole requests with adapters, in seconds, the fastest first."""
        asked = [[each.seconds for each in self.adapted if each.tenant == place] for place in range(TENANTS)]
        return sorted(percentile(seconds, 0.99) for seconds in asked)

    @property
    def starvation_ratio(self) -> float:
        """The slowest tenant's p99 over the fastest's."""
        return self.tenants_p99()[-1] / self.tenants_p99()[0]


def measured(registered: int = REGISTERED, requests_each: int = _REQUESTS_EACH) -> Law:
    """Register, ask by the law, ask the base."""
    with tempfile.TemporaryDirectory(prefix="zipf-") as name:
        served = Served(Path(name) / "served", {"TRIVIUM_GENERATOR_MAX_LORAS": str(SLOTS)})
        try:
            served.start()
            tenants = [tenant_of(served) for _ in range(TENANTS)]
            begun = time.monotonic()
            versions = _registered(served.base, tenants, Path(name) / "adapters", registered)
            rate = registered / (time.monotonic() - begun)
            law = _schedule(versions, requests_each)
            adapted, adapted_seconds = _run(tenants, law)
            tiers = _tiers(tenants)
            base, base_seconds = _run(tenants, [["" for _ in mine] for mine in law])
            return Law(registered, tiers, adapted, base, adapted_seconds, base_seconds, rate)
        finally:
            served.close()


def _registered(base: ResolvedModel, tenants: Sequence[Tenant], folder: Path, count: int) -> list[list[str]]:
    """Publish ``count`` adapters, tenants in turn; those that are asked for, by tenant.

    They are whole; the others, which only have to be there, are small.
    """

    def publish(number: int) -> str:
        whole = number < ASKED_FOR
        recipe = Recipe(_RANK, number) if whole else Recipe(1, number, modules=("q_proj",), layers=1)
        written = adapters.write(base.path, folder / str(number), recipe)
        tenant = tenants[number % TENANTS]
        return str(tenant.registry.publish(f"zipf-{number}", adapters.files(written), base_digest=base.digest).version)

    with ThreadPoolExecutor(_UPLOADS) as pool:
        versions = list(pool.map(publish, range(count)))
    return [versions[place:ASKED_FOR:TENANTS] for place in range(TENANTS)]


def _schedule(versions: Sequence[Sequence[str]], requests_each: int) -> list[list[str]]:
    """What each tenant asks for, in order.  Rank k of all hundred is asked for 1 / k as often as the first."""
    draw = random.Random(32)
    drawn = []
    for place, mine in enumerate(versions):
        weights = [1 / (TENANTS * rank + place + 1) ** _EXPONENT for rank in range(len(mine))]
        drawn.append(draw.choices(mine, weights, k=requests_each))
    return drawn


def _tiers(tenants: Sequence[Tenant]) -> Tiers:
    """Counted since the generator started, which nobody else has asked for an adapter."""
    listed = [tenant.generator.api.ListAdapters(generator_pb2.ListAdaptersRequest()).tiers for tenant in tenants]
    hits: Counter[int] = Counter()
    fetched = 0
    for usage in (usage for tiers in listed for usage in tiers):
        hits[usage.tier] += usage.hits
        fetched += usage.loads if usage.tier == generator_pb2.TIER_FILE else 0
    named = {"slot": generator_pb2.TIER_SLOT, "memory": generator_pb2.TIER_MEMORY, "file": generator_pb2.TIER_FILE}
    return Tiers({name: hits[tier] for name, tier in named.items()}, fetched)


def _run(tenants: Sequence[Tenant], law: Sequence[Sequence[str]]) -> tuple[list[Answered], float]:
    def ask(place: int, number: int, version: str) -> Answered:
        begun = time.monotonic()
        answer = tenants[place].generator.answer(
            f"{QUESTIONS[number % len(QUESTIONS)]} ({number})",
            version,
            max_tokens=_TOKENS,
            sampling={"ignore_eos": True},
        )
        moved = any(timing.stage == "load_slot" for timing in answer.final.timings)
        return Answered(place, time.monotonic() - begun, moved, len(answer.token_ids))

    begun = time.monotonic()
    pools = [ThreadPoolExecutor(_TOGETHER_EACH) for _ in tenants]
    futures = [
        pools[place].submit(ask, place, number, version)
        for place, mine in enumerate(law)
        for number, version in enumerate(mine)
    ]
    answers = [future.result() for future in futures]
    for pool in pools:
        pool.shutdown()
    return answers, time.monotonic() - begun


def told(law: Law) -> str:
    """For people."""
    slow = law.tenants_p99()
    found = ", ".join(f"{tier} {rate:.0%}" for tier, rate in law.hit_rates().items())
    return (
        f"{law.registered} adapters registered at {law.registered_per_second:.1f} a second, {ASKED_FOR} asked for by Zipf's "
        f"law, {SLOTS} slots, {TENANTS} tenants:\n"
        f"  throughput {law.throughput_ratio:.2f} of the same requests on the base "
        f"({sum(each.tokens for each in law.adapted) / law.adapted_seconds:.0f} tokens a second)\n"
        f"  adapters were found in: {found}; fetched from the registry {law.tiers.fetched} times\n"
        f"  median of whole requests: {_median(law.adapted, moved=False):.2f} s where it was in a slot, "
        f"{_median(law.adapted, moved=True):.2f} s where it had to come into one\n"
        f"  p99 of whole requests: fastest tenant {slow[0]:.2f} s, slowest {slow[-1]:.2f} s, ratio "
        f"{law.starvation_ratio:.2f} (on the base "
        f"{percentile([each.seconds for each in law.base], 0.99):.2f} s)"
    )


def _median(answers: Sequence[Answered], *, moved: bool) -> float:
    return statistics.median([each.seconds for each in answers if each.moved == moved] or [0.0])


if __name__ == "__main__":
    import sys

    print(told(measured(*map(int, sys.argv[1:]))))
