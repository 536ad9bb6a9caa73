"""An engine in memory that holds the generator to vLLM's rules, and fails a test that breaks one."""

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from services.generator.announcing import UNLOADED
from services.generator.conversation import Unrenderable
from services.generator.engine import Attestation, EngineFacts, EngineLost, EngineRefused, Finish, Piece
from services.generator.fleet import nearest
from services.generator.hosts import Base, Host
from services.generator.residency import StoredAdapter
from services.generator.supervision import Supervisor, World
from services.generator.verification import BaseRules

# What stored() adapters take, in their file and in host memory.
WEIGHT_BYTES = 100


class MemoryEngine:
    """Slots as vLLM has them.

    ``gate`` closed makes generations wait after their first token, ``prompts`` before it; of ``overflowing`` versions no
    numbers come; ``starting`` closed holds up
    the start, which fails when the engine is ``unstartable``; ``broken`` versions do not load, ``half`` ones fail once
    they fill their slot, and of ``deadly`` ones the engine dies.
    """

    process_ids = ()

    def __init__(self, slots=2, digest="sha256:base", name="base"):
        self.facts = EngineFacts(f"engine-{name}", "memory", name, digest, slots, 16, 128)
        self.held = {}
        self.memory = {}
        self.lifts = []
        self.running = {}
        self.loads = []
        self.broken = set()
        self.deadly = set()
        self.half = set()
        self.prompts = asyncio.Event()
        self.prompts.set()
        self.gate = asyncio.Event()
        self.gate.set()
        self.dead = asyncio.Event()
        self.dead.set()
        self.starts = 0
        self.starting = asyncio.Event()
        self.starting.set()
        self.unstartable = ""
        self.aborted = 0
        self.lie = None
        self.overflowing = set()
        self.mute = set()
        self.salts = []
        self.background = []
        self.unattested = set()
        self.lie_of_base = None

    @property
    def alive(self):
        return not self.dead.is_set()

    async def start(self):
        self.starts += 1
        await self.starting.wait()
        if self.unstartable:
            raise EngineLost(self.unstartable)
        self.held.clear()
        self.memory.clear()
        self.dead.clear()

    async def stop(self):
        self.dead.set()

    async def death(self):
        await self.dead.wait()

    async def lift(self, adapter):
        self._require_life()
        await self._pass()
        version = adapter.name.rpartition("@")[2]
        if version in self.broken:
            raise EngineRefused(f"no such file: {adapter.folder}/weights")
        if version in self.deadly:
            self.dead.set()
            self._require_life()
        assert adapter.engine_id not in self.memory
        assert adapter.engine_id not in self.held
        self.memory[adapter.engine_id] = version
        self.lifts.append(version)
        return WEIGHT_BYTES

    async def load(self, adapter):
        self._require_life()
        await self._pass()
        assert adapter.engine_id in self.memory, "the loop would read the disk"
        assert len(self.held) < self.facts.slots, "vLLM would evict a version on its own"
        assert adapter.engine_id not in self.held
        self.held[adapter.engine_id] = self.memory.pop(adapter.engine_id)
        if self.held[adapter.engine_id] in self.half:
            raise EngineRefused("no memory")
        self.loads.append(self.held[adapter.engine_id])

    async def lower(self, adapter):
        self._require_idle(adapter)
        await self._pass()
        self._require_life()
        self.memory[adapter.engine_id] = self.held.pop(adapter.engine_id)
        return WEIGHT_BYTES

    async def unload(self, adapter):
        self._require_idle(adapter)
        await self._pass()
        self.held.pop(adapter.engine_id, None)

    async def drop(self, adapter):
        self._require_life()
        await self._pass()
        self.memory.pop(adapter.engine_id, None)

    def _require_idle(self, adapter):
        self._require_life()
        assert not self.running.get(adapter.engine_id), "vLLM would reload from disk in the middle of a step"

    async def _pass(self):
        """What was asked of a life that ended meanwhile fails."""
        life = self.starts
        await asyncio.sleep(0)
        if life != self.starts:
            raise EngineLost("rebuilt since")
        self._require_life()

    async def lifted(self):
        return dict.fromkeys(self.memory, WEIGHT_BYTES)

    async def resident(self):
        return frozenset(self.held)

    async def generate(self, job):
        self._require_life()
        life = self.starts
        self.salts.append(job.cache_salt)
        self.background.append(job.background)
        used = job.adapter.engine_id if job.adapter else None
        assert used is None or used in self.held, "vLLM would load lazily inside a step"
        self.running[used] = self.running.get(used, 0) + 1
        slot = -1 if used is None else list(self.held).index(used)
        told = Attestation(slot, self.lie or self.held.get(used, ""), 1, "", self.lie_of_base or self.facts.base_digest)
        try:
            await self._passed(self.prompts, life)
            choices = [choice for choice in range(job.sampling.n) if choice not in self.mute]
            spoken = [(choice, None if choice in self.unattested else told) for choice in choices]
            finite = self.held.get(used) not in self.overflowing
            for choice, record in spoken:
                yield Piece("a", (1,), (), None, 0, record, choice, finite)
            await self._passed(self.gate, life)
            for choice, record in spoken:
                yield Piece("b", (2,), (), Finish.STOP, 0, record, choice)
        except GeneratorExit:
            self.aborted += 1
            raise
        finally:
            self.running[used] -= 1

    async def _passed(self, gate, life):
        await asyncio.wait(
            {asyncio.ensure_future(gate.wait()), asyncio.ensure_future(self.dead.wait())},
            return_when=asyncio.FIRST_COMPLETED,
        )
        if life != self.starts:
            raise EngineLost("rebuilt since")
        self._require_life()

    def _require_life(self):
        if self.dead.is_set():
            raise EngineLost("dead")


class Words:
    """A tokenizer of one token a character."""

    template = "{{ messages }}"
    template_digest = "sha256:template"
    vocabulary = 256
    special_tokens: ClassVar = {"bos_token": "<s>"}

    def rendered(self, text):
        return [ord(letter) for letter in text]

    def written(self, turns, tools=()):
        if turns[0].role == "tool":
            raise Unrenderable("no tools")
        return "".join(turn.content for turn in turns)

    def text(self, text):
        return [ord(letter) for letter in text]


class Compiles:
    """Finds nothing wrong with any constraint."""

    async def require_compilable(self, constraint, tenant, field="structured_output"):
        pass

    async def rest(self):
        pass

    async def close(self):
        pass


class Quiet:
    """A log that nobody reads."""

    def info(self, event, **fields):
        pass

    error = info


def hosted(engine, slots, serving, *, always_on=True, size_bytes=1, attempts=None):
    """A host over an engine in memory; ``serving`` hears of its changes."""

    async def pause(seconds):
        await asyncio.sleep(0)

    world = World(serving, lambda: datetime.now(UTC), pause, Quiet())
    supervisor = Supervisor(engine, slots, world, attempts)
    facts = engine.facts
    base = Base(facts.base, facts.base_digest, Path("/nowhere"), always_on, public=always_on)
    return Host(base, Words(), BaseRules({}, 16), Compiles(), engine, slots, supervisor, size_bytes)


class Inline(ThreadPoolExecutor):
    """Runs what would go to a thread at once, so that a test waits for nothing but the loop."""

    def submit(self, fn, /, *arguments, **named):
        done: Future[Any] = Future()
        done.set_result(fn(*arguments, **named))
        return done


def stored(version, tenant="t", template_digest=""):
    """A verified adapter that lies nowhere."""
    return StoredAdapter(version, tenant, f"model-{version}", Path("/nowhere"), 8, WEIGHT_BYTES, template_digest)


class OneEngine:
    """The slots of one engine as the watcher sees all of them."""

    def __init__(self, slots):
        self._slots = slots

    def absence(self, version):
        return UNLOADED

    def __getattr__(self, name):
        return getattr(self._slots, name)

    async def warm(self, tenant, prepared, *, pending):
        await nearest(self._slots, tenant, prepared, pending=pending)


async def settled():
    """Let everything that can run without waiting for time run."""
    for _ in range(200):
        await asyncio.sleep(0)
