"""Where training processes run: what the runner asks of an executor, and what it hears.

Invariants: whatever a process says of a job, and that it ended, is heard in that order; a job is told of until it is
STOPPED, DONE or REFUSED, or its process is lost, and never after.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from services.trainer.reports import Report
from services.trainer.scheduling.choosing import Share
from services.trainer.scheduling.state import Group, Node, Priority, Process, Turn
from services.trainer.work import Work


@dataclass(frozen=True, slots=True)
class Training:
    """A job that is to be trained under a lease of epoch ``epoch``; ``group`` None gives it processes of its own.

    ``folder`` is the job's, where its order is written and its checkpoints lie.
    """

    tenant: str
    job: str
    epoch: int
    folder: Path
    work: Work
    group: Group | None
    nodes: tuple[str, ...]
    priority: Priority = Priority.NORMAL
    deadline: float = 0.0
    processes: int = 1

    @property
    def process(self) -> Process:
        """The process in which it computes, by the scheduler's name."""
        return Process(self.nodes, self.group) if self.group else Process(self.nodes, job=self.job)


@dataclass(frozen=True, slots=True)
class Lost:
    """The process of a job ended without a word about it.  ``how`` says how, for people."""

    tenant: str
    job: str
    epoch: int
    how: str


News = Report | Lost


class Unheard:
    """What was said and nobody has heard yet, in its order."""

    def __init__(self) -> None:
        self._news: asyncio.Queue[News] = asyncio.Queue()

    def put(self, news: News) -> None:
        """Add what was said just now."""
        self._news.put_nowait(news)

    async def wait(self) -> list[News]:
        """Take all there is, once there is something."""
        return [await self._news.get(), *self.take()]

    def take(self) -> list[News]:
        """Take all there is, which may be nothing."""
        taken: list[News] = []
        while not self._news.empty():
            taken.append(self._news.get_nowait())
        return taken


class Executor(Protocol):
    """Starts, steers and ends training processes."""

    def at_work(self) -> AbstractAsyncContextManager[object]:
        """Inside the block processes may be started; when it ends all have ended, and what they said can be heard."""

    @property
    def gangs(self) -> bool:
        """Whether a job may have several processes."""

    def nodes(self) -> Sequence[Node]:
        """The machines that train, as they are now."""

    def turns(self) -> Sequence[Turn]:
        """The processes there are, and which of them compute."""

    async def start(self, training: Training) -> None:
        """Give the job a process, which rests until `go`, or its group's.  Raises what starting one fails with."""

    async def stop(self, job: str) -> None:
        """Ask for a checkpoint at the next step boundary; STOPPED follows.  No error for a job that is not here."""

    async def drop(self, job: str) -> None:
        """Let go of the job at once; nothing more is heard of it."""

    async def go(self, process: Process) -> None:
        """Let a process compute."""

    async def hold(self, process: Process) -> None:
        """Let a process rest; it stays in memory."""

    async def share(self, shares: Mapping[str, Share]) -> None:
        """Tell the processes of many jobs what tenants are worth, have used, and may still train, by tenant."""

    async def news(self) -> list[News]:
        """What was heard since the last call, in order; waits until there is something."""

    def left(self) -> list[News]:
        """What was heard since the last call, in order; empty when there is nothing."""
