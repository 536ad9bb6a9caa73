"""A generator that writes the same text once, for trials that ask for it again and again.

Invariant: what is given again cost as much as when it was written: its time is counted.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.retriever.generation import Generator, Turn, Writer, Written


@dataclass(slots=True)
class Remembering:
    """Implements :class:`Generator`: what was written once is not written again; ``saved_seconds`` is what that saves."""

    inner: Generator
    saved_seconds: float = 0.0
    _known: dict[tuple[object, ...], tuple[Written, float]] = field(default_factory=dict)

    def require(self) -> None:
        """As the Protocol says."""
        self.inner.require()

    async def writer(self) -> Writer:
        """As the Protocol says."""
        return await self.inner.writer()

    async def tokens(self, turns: Sequence[Turn]) -> int:
        """As the Protocol says."""
        return await self.inner.tokens(turns)

    async def complete(self, turns: Sequence[Turn], max_tokens: int, seed: int = 0) -> Written:
        """As the Protocol says."""
        key = (*turns, max_tokens, seed)
        if key in self._known:
            written, seconds = self._known[key]
            self.saved_seconds += seconds
            return written
        began = time.perf_counter()
        written = await self.inner.complete(turns, max_tokens, seed)
        self._known[key] = written, time.perf_counter() - began
        return written
