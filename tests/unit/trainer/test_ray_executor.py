"""What the executor over a cluster does with its actors, which here do nothing but answer."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from services.chassis.logs import logger
from services.chassis.processor import processor
from services.trainer.executors.cluster.connection import RayNode
from services.trainer.executors.cluster.gang import GangHost
from services.trainer.executors.cluster.node import Facts, Told, made_of
from services.trainer.executors.executor import News, Training
from services.trainer.executors.local import Machine
from services.trainer.executors.ray import RayExecutor
from services.trainer.reports import Report
from services.trainer.settings import Settings
from services.trainer.work import Line, Said, Work
from tests.harness.timeouts import HANG_SECONDS


class RayError(Exception):
    """As Ray's."""


class RayTaskError(RayError):
    """As Ray's."""


class Actor:
    """Answers as a machine's actor does, or a gang's."""

    def __init__(self, kind: type) -> None:
        self.kind = kind
        self.dead = False
        self._ended = False
        self._number = 0
        self._says: list[News] = []
        self._changed = asyncio.Event()

    def says(self, *news: News) -> None:
        """What is heard of it next."""
        self._says += news
        self._changed.set()

    def die(self) -> None:
        """It answers no more."""
        self.dead = True
        self._changed.set()

    def __getattr__(self, method: str) -> "Call":
        return Call(self, method)

    async def answer(self, method: str, arguments: Sequence[Any]) -> Any:
        if method == "news":
            await self._changed.wait()
            self._changed.clear()
        if self.dead:
            raise RayError("the actor died")
        if method == "facts":
            word: Path = arguments[0]
            read = await asyncio.to_thread(word.read_text)
            return Facts(1, 1 << 30, made_of(), processor().instructions, read)
        if method == "end":
            self._ended = True
            self._changed.set()
            return None
        self._number += 1
        said, self._says = tuple(self._says), []
        return Told(said if method == "news" else (), (), self._number, self._ended)


@dataclass(frozen=True, slots=True)
class Call:
    """A method of an actor."""

    actor: Actor
    method: str

    def options(self, **_: Any) -> "Call":
        return self

    async def remote(self, *arguments: Any) -> Any:
        return await self.actor.answer(self.method, arguments)


class Cluster:
    """A connection to two machines."""

    def __init__(self) -> None:
        self.ray = SimpleNamespace(exceptions=SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError))
        self.actors: list[Actor] = []

    async def nodes(self) -> Sequence[RayNode]:
        return [RayNode(name, name, 1, 1 << 30) for name in ("one", "two")]

    def actor(self, kind: type, node: str, groups: Mapping[str, int], *arguments: object) -> Actor:
        self.actors.append(Actor(kind))
        return self.actors[-1]

    def kill(self, actor: Actor) -> None:
        actor.die()

    @property
    def gangs(self) -> list[Actor]:
        """The gangs' actors, in the order in which they were started."""
        return [actor for actor in self.actors if actor.kind is GangHost]


def gang(folder: Path, epoch: int) -> Training:
    """A job of two processes, under a lease."""
    work = Work("base", "tiny", "rows", Settings(), threads=1, data_dir=str(folder))
    return Training("acme", "job", epoch, folder / "job", work, None, ("one", "two"), processes=2)


async def test_a_gang_that_is_started_again_before_its_last_actor_has_ended_leaves_none_behind(tmp_path: Path) -> None:
    cluster: Any = Cluster()
    machine = Machine("", "us", memory_bytes=0, cores=0, stop_seconds=1.0, idle_seconds=1.0)
    async with RayExecutor(cluster, tmp_path, machine, logger("trainer")).at_work() as executor:
        for epoch in (1, 2):
            training = gang(tmp_path, epoch)
            await executor.start(training)
            stopped = Report("acme", "job", epoch, Line(Said.STOPPED))
            cluster.gangs[-1].says(stopped)
            async with asyncio.timeout(HANG_SECONDS):
                assert await executor.news() == [stopped]
        assert [actor.dead for actor in cluster.gangs] == [True, False]
    assert all(actor.dead for actor in cluster.actors)
    assert executor.left() == []
