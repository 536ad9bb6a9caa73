"""A generator that says what a test has it say: counts what it is asked, can be away, or never end."""

import asyncio
from collections.abc import Callable, Sequence

from services.chassis.errors import Failure, Reason
from services.retriever.generation import Turn, Writer, Written

DIGEST = "sha256:" + "7" * 64


class Scribe:
    """Implements ``services.retriever.generation.Generator``; ``say`` makes the text of the last turn."""

    def __init__(self, say: Callable[[str], str] = lambda asked: asked) -> None:
        self.say = say
        self.asked: list[str] = []
        self.problem: Failure | None = None
        # Texts that it writes before it goes away.
        self.most: int | None = None
        # Cleared, it writes nothing until it is set again.
        self.open = asyncio.Event()
        self.open.set()

    def require(self) -> None:
        pass

    async def writer(self) -> Writer:
        self._present()
        return Writer(DIGEST, 2048)

    async def tokens(self, turns: Sequence[Turn]) -> int:
        self._present()
        return sum(len(turn.content.split()) for turn in turns)

    async def complete(self, turns: Sequence[Turn], max_tokens: int, seed: int = 0) -> Written:
        self.asked.append(turns[-1].content)
        await self.open.wait()
        if self.most is not None and len(self.asked) > self.most:
            self.go_away()
        self._present()
        return Written(self.say(turns[-1].content), DIGEST, True)

    def _present(self) -> None:
        if self.problem is not None:
            raise self.problem

    def go_away(self) -> None:
        """From now on it cannot be reached."""
        self.problem = Failure(Reason.PEER_UNAVAILABLE, service="generator")
