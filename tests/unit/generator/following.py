"""A watcher over a registry in memory and an engine in memory: what it prepares, says and retires."""

import asyncio
from contextlib import asynccontextmanager
from typing import Any

from services.chassis.errors import Failure
from services.generator.adapter_files import VersionFacts
from services.generator.aliases import AliasSeen, Change
from services.generator.cursor import Cursor
from services.generator.holdings import Shared
from services.generator.places import Limits, Slots
from services.generator.watcher import Watcher
from tests.unit.generator.engines import WEIGHT_BYTES, Inline, MemoryEngine, OneEngine, settled, stored

SIGN_OF_LIFE = Change(0, None, False, True)


class MemoryRegistry:
    """Aliases, a stream, and what was reported."""

    def __init__(self):
        self.known = []
        self.stream: asyncio.Queue[Any] = asyncio.Queue()
        self.after = []
        self.said = []
        self.refuse = []
        self.deaf = []

    @asynccontextmanager
    async def as_service(self):
        yield

    async def aliases(self):
        return list(self.known)

    async def changes(self, after):
        self.after.append(after)
        if self.refuse:
            raise self.refuse.pop()
        while True:
            item = await self.stream.get()
            if isinstance(item, Failure):
                raise item
            yield item

    async def facts(self, version):
        return VersionFacts(version, "")

    async def report(self, tenant, version, word, reason):
        if version and self.deaf:
            raise self.deaf.pop()
        if version:
            self.said.append((version, word, reason))

    def words(self, version):
        return [word for told, word, _ in self.said if told == version]

    def last(self, version):
        return [(word, reason) for told, word, reason in self.said if told == version][-1]


class Shelf:
    def __init__(self):
        self.fail = {}
        self.obtained = []
        self.used = {}
        self.room = True
        self.gates = {}

    async def obtain(self, facts, ended=lambda _: None):
        self.obtained.append(facts.version)
        if gates := self.gates.get(facts.version):
            await gates.pop(0).wait()
        if failures := self.fail.get(facts.version):
            raise failures.pop(0)
        return stored(facts.version)

    def used_at(self, version):
        return self.used.get(version, 0.0)

    def has_room(self, facts):
        return self.room


class Log:
    def info(self, event, **fields):
        pass

    error = info


class World:
    def __init__(self, tmp_path, slots=2, memory=0):
        self.engine = MemoryEngine(slots)
        shared = Shared()
        self.priorities = shared.priorities
        limits = Limits(8, 8, memory_bytes=memory * WEIGHT_BYTES)
        self.slots = Slots(self.engine, limits, lambda: 0.0, shared)
        self.registry = MemoryRegistry()
        self.shelf = Shelf()
        self.cursor = Cursor(tmp_path / "watch.json")
        self.pauses = asyncio.Semaphore(0)
        self.deletions = 0
        self.watcher = Watcher(
            self.registry,
            self.shelf,
            OneEngine(self.slots),
            self.cursor,
            Log(),
            heartbeat_seconds=1.0,
            pause=self._pause,
            version_deleted=[self._count_deletion],
            priorities=self.priorities,
        )

    def _count_deletion(self):
        self.deletions += 1

    async def _pause(self, seconds):
        if seconds == 1.0:
            await asyncio.Event().wait()
        await self.pauses.acquire()

    async def open(self):
        asyncio.get_running_loop().set_default_executor(Inline())
        await self.engine.start()
        await self.slots.resume([])
        self.life = asyncio.create_task(self.watcher.run())
        return self

    async def close(self):
        self.life.cancel()
        await asyncio.gather(self.life, return_exceptions=True)

    async def tell(self, *changes):
        for change in changes:
            self.registry.stream.put_nowait(change)
        await settled()

    @property
    def resident(self):
        return {held.stored.version for held in self.slots.residents()}


def alias(target, serving="", name="prod", pending=None):
    return AliasSeen("t", "m", name, target, serving, target != serving if pending is None else pending)
