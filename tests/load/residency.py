"""How slots, host memory and the queue do under many adapters: ``python -m tests.load.residency``.

The generator's own queue and tiers, over an engine that only takes time: virtual time, so the figures are the same on
every machine.  100 of the adapters of ten tenants are asked for by a Zipf law, over 16 slots and host memory for 32, and
beside it the same requests to the base.  An engine step takes 50 ms and gives every running request a token; filling a
slot holds the steps up for 10 ms, reading a file for none, as measured on the CPU with SmolLM2-135M and rank 16.
"""

from __future__ import annotations

import asyncio
import json
import random
import selectors
import statistics
from collections import Counter, defaultdict
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from services.generator.engine import Engine, EngineAdapter, EngineFacts
from services.generator.forecast import Wanted
from services.generator.holdings import Shared
from services.generator.places import Limits, Slots
from services.generator.residency import StoredAdapter, Tier
from tests.load.percentile import percentile

STEP_SECONDS = 0.05
FILL_SECONDS = 0.01
READ_SECONDS = 0.03
WEIGHT_BYTES = 10 << 20


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to whatever comes next instead of waiting for it."""

    def __init__(self) -> None:
        super().__init__(_Jumping(self))
        self.now = 0.0

    def time(self) -> float:
        """Virtual seconds."""
        return self.now


class _Jumping(selectors.DefaultSelector):
    """A selector that moves the clock of its loop instead of sleeping."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        """Whatever is ready; nothing is waited for."""
        if timeout:
            self._loop.now += timeout
        return super().select(0)


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run to its end in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)


class SlowEngine:
    """Takes time for what an engine takes time for, and holds the policy to the engine's rules."""

    alive = True

    def __init__(self, slots: int) -> None:
        self.facts = EngineFacts("e", "virtual", "base", "sha256:base", slots, 16, 2048)
        self._slots: set[int] = set()
        self._memory: set[int] = set()
        self._loop_taken = asyncio.Lock()
        self._stepped = asyncio.Event()

    async def run(self) -> None:
        """Step for as long as the task lives."""
        while True:
            async with self._loop_taken:
                await asyncio.sleep(STEP_SECONDS)
                self._stepped.set()
                self._stepped = asyncio.Event()
            await asyncio.sleep(0)

    async def step(self) -> None:
        """Return when one more step was made."""
        await self._stepped.wait()

    async def lift(self, adapter: EngineAdapter) -> int:
        """Read beside the steps."""
        await asyncio.sleep(READ_SECONDS)
        self._memory.add(adapter.engine_id)
        return WEIGHT_BYTES

    async def load(self, adapter: EngineAdapter) -> None:
        """Fill a slot between two steps."""
        async with self._loop_taken:
            await asyncio.sleep(FILL_SECONDS)
            self._memory.remove(adapter.engine_id)
            self._slots.add(adapter.engine_id)
            assert len(self._slots) <= self.facts.slots

    async def lower(self, adapter: EngineAdapter) -> int:
        """Free a slot between two steps."""
        async with self._loop_taken:
            self._slots.remove(adapter.engine_id)
            self._memory.add(adapter.engine_id)
            return WEIGHT_BYTES

    async def unload(self, adapter: EngineAdapter) -> None:
        """Free a slot for good."""
        async with self._loop_taken:
            self._slots.remove(adapter.engine_id)

    async def drop(self, adapter: EngineAdapter) -> None:
        """Free memory."""
        self._memory.remove(adapter.engine_id)


def adapter_of(tenant: str, number: int) -> StoredAdapter:
    """A verified adapter that lies nowhere."""
    return StoredAdapter(f"{tenant}-{number}", tenant, "m", Path("/nowhere"), 16, WEIGHT_BYTES)


@dataclass
class Served:
    """A generator in virtual time, and what became of every request: seconds to the first token, by tenant."""

    slots: int
    memory: int
    running: int = 32
    waiting: int = 256
    first_tokens: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    weighted: Counter[str] = field(default_factory=Counter)
    tokens: int = 0

    async def open(self) -> Served:
        """Start stepping."""
        loop = asyncio.get_running_loop()
        self.shared = Shared()
        self.engine = SlowEngine(self.slots)
        limits = Limits(self.running, self.waiting, 0.25, self.memory * WEIGHT_BYTES)
        self.places = Slots(cast("Engine", self.engine), limits, loop.time, self.shared)
        await self.places.resume([])
        self._steps = loop.create_task(self.engine.run())
        return self

    async def close(self) -> None:
        """Stop."""
        self._steps.cancel()
        await asyncio.gather(self._steps, return_exceptions=True)

    async def answer(self, tenant: str, adapter: StoredAdapter | None, prompt_tokens: int, new_tokens: int) -> None:
        """One request; raises OVERLOADED as the generator would."""
        asked = asyncio.get_running_loop().time()
        async with self.places.place(tenant, adapter, Wanted(prompt_tokens)) as place:
            self.weighted[tenant] += prompt_tokens
            for number in range(new_tokens):
                await self.engine.step()
                if not number:
                    self.first_tokens[tenant].append(asyncio.get_running_loop().time() - asked)
                self.places.charge(tenant, place, 1)
                self.weighted[tenant] += 2
                self.tokens += 1

    def p99(self, tenant: str) -> float:
        """The 99th percentile of a tenant's seconds to the first token."""
        return percentile(self.first_tokens[tenant], 0.99)


@dataclass(frozen=True)
class Zipf:
    """What a run came to."""

    tokens_per_second: float
    hits: dict[str, float]
    slowest_p99_seconds: float
    fastest_p99_seconds: float

    @property
    def p99_ratio(self) -> float:
        """The slowest tenant's over the fastest's."""
        return self.slowest_p99_seconds / self.fastest_p99_seconds


async def zipf(
    *,
    adapters: int = 100,
    tenants: int = 10,
    slots: int = 16,
    memory: int = 32,
    seed: int = 1,
    base: bool = False,
    seconds: float = 120.0,
) -> Zipf:
    """24 clients that ask without a pause, each time for another adapter by Zipf's law (exponent 1)."""
    served = await Served(slots, memory).open()
    draw = random.Random(seed)
    known = [adapter_of(f"tenant-{number % tenants}", number) for number in range(adapters)]
    weights = [1 / (rank + 1) for rank in range(adapters)]
    until = seconds
    loop = asyncio.get_running_loop()

    async def client() -> None:
        while loop.time() < until:
            (adapter,) = draw.choices(known, weights)
            prompt_tokens, new_tokens = draw.randint(10, 200), draw.randint(8, 48)
            await served.answer(adapter.tenant, None if base else adapter, prompt_tokens, new_tokens)

    await asyncio.gather(*(client() for _ in range(24)))
    took_seconds = loop.time()
    await served.close()
    found = {tier.value: served.shared.tallies.of(tier, None).hits for tier in Tier}
    asked = max(1, sum(found.values()))
    p99s = [served.p99(tenant) for tenant in served.first_tokens]
    hits = {tier: count / asked for tier, count in found.items()}
    return Zipf(served.tokens / took_seconds, hits, max(p99s), min(p99s))


def main() -> None:
    """Print a table for people, then one line of JSON."""
    runs = [run(zipf(seed=seed)) for seed in range(3)]
    bases = [run(zipf(seed=seed, base=True)) for seed in range(3)]

    def median(values: Sequence[float]) -> float:
        return statistics.median(values)

    told = {
        "zipf_throughput_ratio": median(
            [a.tokens_per_second / b.tokens_per_second for a, b in zip(runs, bases, strict=True)]
        ),
        **{f"{tier.value}_hit_rate": median([each.hits[tier.value] for each in runs]) for tier in Tier},
        "slowest_over_fastest_tenant_p99": median([each.p99_ratio for each in runs]),
        "slowest_tenant_p99_seconds": median([each.slowest_p99_seconds for each in runs]),
    }
    meanings = {
        "zipf_throughput_ratio": "tokens a second, over the same requests to the base",
        "slot_hit_rate": "requests that found their version in a slot",
        "memory_hit_rate": "... in host memory: a copy away",
        "file_hit_rate": "... only in its file",
        "slowest_over_fastest_tenant_p99": "first token, ten tenants: nobody starves",
        "slowest_tenant_p99_seconds": "of virtual time",
    }
    for name, value in told.items():
        print(f"{name:34s} {value:8.3f}  {meanings[name]}")
    print(json.dumps({"benchmark": "residency", **{name: round(value, 3) for name, value in told.items()}}))


if __name__ == "__main__":
    main()
