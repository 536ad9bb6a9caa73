"""The verb that answers, over an engine in memory and stand-ins for files, permissions and templates."""

import itertools
from contextlib import asynccontextmanager, contextmanager

from services.chassis.errors import Failure, Reason
from services.generator.adapter_files import VersionFacts
from services.generator.asking import Ask, Done
from services.generator.bases import Target
from services.generator.engine import Sampling
from services.generator.generation import Generation, Sources
from services.generator.places import Limits, Slots
from services.generator.prompts import Prompts
from tests.unit.generator.engines import MemoryEngine, hosted, stored


class Shelf:
    def __init__(self):
        self.held = []

    async def obtain(self, facts, ended=lambda _: None):
        return stored(facts.version, template_digest="sha256:own" if facts.version == "styled" else "")

    @contextmanager
    def in_hand(self, version):
        self.held.append(version)
        try:
            yield
        finally:
            self.held.remove(version)


class Renders:
    """Tells by what it was asked to render."""

    async def render(self, template, special_tokens, turns, tools=()):
        return f"{template.tenant} {template.digest} {special_tokens['bos_token']} {turns[0].content}"


class Permissions:
    async def facts(self, version):
        if version == "hidden":
            raise Failure(Reason.VERSION_NOT_FOUND, name=version)
        return VersionFacts(version, "")

    async def full_model(self, name):
        return ""


class Found:
    """Sends everything to the one host."""

    def __init__(self, host):
        self.host = host

    async def find(self, versions, version, base):
        if base:
            raise Failure(Reason.BASE_NOT_FOUND, name=base, known="base")
        facts = await versions.facts(version) if version else None
        return Target(self.host, version, f"model-{version}" if version else "", facts)


class AlwaysOn:
    """A pool whose engine needs no start."""

    @asynccontextmanager
    async def use(self, host, tenant):
        yield


async def blocking(function, *arguments):
    return function(*arguments)


class World:
    """The verb over an engine in memory, without a process or a peer."""

    def __init__(self, slots=2, limits=None, now=None):
        self.engine = MemoryEngine(slots)
        ticks = itertools.count()
        self.now = now or (lambda: next(ticks) / 8)
        self.slots = Slots(self.engine, limits or Limits(8, 8), self.now)
        self.counted: list[Done] = []
        ids = itertools.count()
        sources = Sources(lambda: f"id-{next(ids)}", lambda: 77, self.now, blocking)
        self.states: list[bool] = []
        self.host = hosted(self.engine, self.slots, lambda now, why: self.states.append(now))
        prompts = Prompts(Renders(), blocking)
        self.shelf = Shelf()
        self.verb = Generation(
            Found(self.host), AlwaysOn(), self.shelf, Permissions(), prompts, sources, self.counted.append
        )

    async def open(self):
        await self.engine.start()
        await self.slots.resume([])
        return self

    async def run(self, **fields):
        return [part async for part in self.verb.answer(ask(**fields), "tenant")]


def ask(prompt="hello", version="", base="", seed=None, max_tokens=0, **sampling):
    return Ask(prompt, version, base, Sampling(max_tokens, **sampling), seed, None, "", "m@prod")
