"""One actor that trains, as the trainer sees it: what it was given, how its processes stand, what it says.

Invariants: what an actor said is heard in order, and of a job only while the actor holds it under that lease; an actor
that does not answer in time is `Gone`, whatever is the matter with it.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from services.trainer.executors.cluster.connection import Connection
from services.trainer.executors.cluster.node import NEWS, Told
from services.trainer.executors.executor import Lost, News, Training
from services.trainer.scheduling.state import Node, Turn
from services.trainer.work import LAST

# A call that starts a process takes tenths of a second; a machine that swaps is given time.
_ANSWER_SECONDS = 20.0
_POLL_SECONDS = 1.0


class Gone(Exception):
    """The actor ended, its machine died, or it does not answer."""


class Host:
    """Calls of one actor; `node` is set once it has said what its machine is."""

    def __init__(self, connection: Connection, actor: Any) -> None:
        self._ray = connection.ray
        self.actor = actor
        self.node = Node("", 0, 0, alive=False)
        self.jobs: dict[str, Training] = {}
        self.turns: Sequence[Turn] = ()
        self._number = 0

    async def ask(
        self, method: str, *arguments: object, group: str = "", within_seconds: float = _ANSWER_SECONDS
    ) -> Any:
        """Call it.  Raises Gone, and OSError when that is what the call fails with."""
        errors = self._ray.exceptions
        call = getattr(self.actor, method)
        try:
            async with asyncio.timeout(within_seconds):
                return await (call.options(concurrency_group=group) if group else call).remote(*arguments)
        except errors.RayTaskError as error:
            if isinstance(error.cause, OSError):
                raise error.cause from error
            raise
        except TimeoutError as error:
            raise Gone(f"no answer within {within_seconds:.0f} s") from error
        except errors.RayError as error:
            raise Gone(_first_line(error)) from error

    async def tell(self, method: str, *arguments: object) -> None:
        """Call it, and take in how its processes stand then."""
        if (told := await self.ask(method, *arguments)) is not None:
            self._stand(told)

    async def heard(self) -> AsyncIterator[list[News]]:
        """What it says of the jobs that it holds, until it has ended.  Raises Gone."""
        while True:
            wait_seconds = _POLL_SECONDS + _ANSWER_SECONDS
            told: Told = await self.ask("news", _POLL_SECONDS, group=NEWS, within_seconds=wait_seconds)
            self._stand(told)
            if heard := [news for news in told.news if self._concerns(news)]:
                yield heard
            if told.ended:
                return

    async def end(self, stop_seconds: float) -> None:
        """Have all its processes write checkpoints and end; nothing is raised for one that is gone."""
        try:
            await self.ask("end", stop_seconds, within_seconds=stop_seconds + _ANSWER_SECONDS)
        except (OSError, Gone):
            return

    def forget_all(self, how: str) -> list[News]:
        """That each job it held is lost."""
        lost = [Lost(training.tenant, training.job, training.epoch, how) for training in self.jobs.values()]
        self.jobs.clear()
        self.turns = ()
        return [*lost]

    def _stand(self, told: Told) -> None:
        if told.number > self._number:
            self._number, self.turns = told.number, told.turns

    def _concerns(self, news: News) -> bool:
        held = self.jobs.get(news.job)
        if held is None or held.epoch != news.epoch:
            return False
        if isinstance(news, Lost) or news.line.said in LAST:
            del self.jobs[news.job]
        return True


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
