"""Lets a collection's catalog and index change as one in the eyes of a search.

Invariant: while a change is inside, no search of that collection is; searches run beside
one another.  A waiting change goes first, for it takes milliseconds.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Gate:
    changing: bool = False
    waiting: int = 0
    searches: int = 0
    changes: int = 0
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, open_now: Callable[[], bool]) -> None:
        while not open_now():
            await self.moved.wait()

    def move(self) -> None:
        """Wake everybody once.  Without await, so that no cancellation can come in between."""
        self.moved.set()
        self.moved = asyncio.Event()


@dataclass(slots=True)
class Gates:
    """One gate a collection, by its number."""

    _gates: dict[int, _Gate] = field(default_factory=dict)

    @asynccontextmanager
    async def change(self, collection: int) -> AsyncIterator[None]:
        """Alone with the collection."""
        gate = self._gates.setdefault(collection, _Gate())
        gate.waiting += 1
        try:
            await gate.until(lambda: not gate.changing and not gate.searches)
            gate.changing = True
        finally:
            gate.waiting -= 1
            gate.move()
        try:
            yield
        finally:
            gate.changes += 1
            gate.changing = False
            gate.move()

    def changes(self, collection: int) -> int:
        """How many changes have been inside; the same number twice, and nothing has moved in between."""
        gate = self._gates.get(collection)
        return 0 if gate is None else gate.changes

    @asynccontextmanager
    async def search(self, collections: Iterable[int]) -> AsyncIterator[None]:
        """Beside other searches; several collections are entered in one order, so nobody waits in a circle."""
        async with AsyncExitStack() as stack:
            for collection in sorted(set(collections)):
                await stack.enter_async_context(self._search(collection))
            yield

    @asynccontextmanager
    async def _search(self, collection: int) -> AsyncIterator[None]:
        gate = self._gates.setdefault(collection, _Gate())
        await gate.until(lambda: not gate.changing and not gate.waiting)
        gate.searches += 1
        try:
            yield
        finally:
            gate.searches -= 1
            gate.move()
