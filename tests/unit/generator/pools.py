"""A pool over engines in memory, and requests that use them for as long as a test wants."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from services.chassis.errors import Failure
from services.generator.places import Limits, Slots
from services.generator.pool import Pool
from services.generator.pool_table import PoolLimits
from tests.unit.generator.engines import MemoryEngine, Quiet, hosted, settled

GIB = 1 << 30


class World:
    """A pool with room for so many engines of one GiB beside the one that is always on, and a clock of its own."""

    def __init__(self, cold=1, **limits):
        self.now = 1000.0
        limits = {"budget_bytes": (1 + cold) * GIB, "max_engines": 8, **limits}
        self.lives = []
        self.pool = Pool(PoolLimits(**limits), lambda: self.now, self._spawn, Quiet())
        self.hosts = {}
        self.host("base", always_on=True)

    def _spawn(self, work):
        self.lives.append(asyncio.create_task(work))
        return self.lives[-1]

    def host(self, name, *, always_on=False, size_bytes=GIB):
        engine = MemoryEngine(2, f"sha256:{name}")
        slots = Slots(engine, Limits(8, 8), lambda: self.now)
        attempts = None if always_on else 2

        def heard(now, why):
            self.pool.heard(self.hosts[name])

        host = hosted(engine, slots, heard, always_on=always_on, size_bytes=size_bytes, attempts=attempts)
        self.hosts[name] = host
        self.pool.add(host)
        return host

    def use(self, name, tenant="t"):
        return Use(self.pool, self.hosts[name], tenant)

    def states(self):
        return {name: self.pool.state(host) for name, host in self.hosts.items() if name != "base"}

    async def later(self, seconds):
        self.now += seconds
        self.pool.look()
        await settled()

    @property
    def occupied(self):
        return sum(host.size_bytes for host in self.hosts.values() if host.life is not None)


class Use:
    """One request that uses an engine until it is told to end."""

    def __init__(self, pool, host, tenant):
        self.using = asyncio.Event()
        self.may_end = asyncio.Event()
        self.task = asyncio.create_task(self._run(pool, host, tenant))

    async def _run(self, pool, host, tenant):
        async with pool.use(host, tenant):
            assert host.engine.alive
            self.using.set()
            await self.may_end.wait()
            assert host.life is not None, "an engine was stopped under a request"

    async def end(self):
        self.may_end.set()
        await self.task
        await settled()

    async def failure(self):
        with pytest.raises(Failure) as caught:
            await self.task
        return caught.value


@asynccontextmanager
async def world(**fields):
    opened = World(**fields)
    await settled()
    yield opened
    for life in opened.lives:
        life.cancel()
    await asyncio.gather(*opened.lives, return_exceptions=True)
