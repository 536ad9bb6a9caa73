"""Mends an index that was away, while the service goes on.

Invariant: while a collection is mended nothing of it is searched or changed, and an index
counts as whole only when it was not lost again since its mending began.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from services.chassis.database import Database
from services.chassis.errors import Code, Failure
from services.retriever.index.gates import Gates
from services.retriever.index.places import Kind
from services.retriever.index.repair import repair_collection, settle
from services.retriever.index.routing import Router


@dataclass(slots=True)
class Mending:
    """One task over all indexes.  ``wake`` stirs whoever waits for an index; ``report`` writes down what was mended."""

    database: Database
    router: Router
    gates: Gates
    blocking: Callable[..., Awaitable[Any]]
    wake: Callable[[], None]
    report: Callable[[Kind, int, int], None]
    retry_seconds: float
    _lost: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Mend whatever is lost, again and again until it is whole; runs until it is cancelled."""
        loop = asyncio.get_running_loop()

        def lost() -> None:
            loop.call_soon_threadsafe(self._lost.set)

        self.router.lost = lost
        while True:
            self._lost.clear()
            for kind in self.router.indexes:
                if not self.router.whole(kind) and not await self._mend(kind):
                    self._lost.set()
            if self._lost.is_set():
                await asyncio.sleep(self.retry_seconds)
            else:
                await self._lost.wait()

    async def _mend(self, kind: Kind) -> bool:
        """One try; whether the index is whole now."""
        losses = self.router.losses(kind)
        added = removed = 0
        try:
            places = await self.blocking(settle, self.database, self.router, kind)
            for place in places:
                async with self.gates.change(place.collection):
                    # It may have moved while others were mended.
                    now = self.router.place(place.collection)
                    if now.kind is kind:
                        more, less = await self.blocking(repair_collection, self.database, self.router, now)
                        added, removed = added + more, removed + less
        except Failure as failure:
            if failure.code not in (Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED):
                raise
            return False
        whole = self.router.mended(kind, losses)
        self.report(kind, added, removed)
        self.wake()
        return whole
