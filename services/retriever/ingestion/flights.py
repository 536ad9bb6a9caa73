"""Texts that are being embedded now, so that documents which come at once embed what they share once.

Invariant: one tenant's text is with one worker at a time, and that worker waits for nobody
meanwhile, so none wait in a circle.  One process works on a catalog's queue, so its memory
is the place to remember them.
"""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice


@dataclass(slots=True)
class Flights:
    """What is under way, by tenant, model digest and text digest."""

    _under_way: dict[tuple[str, str, bytes], asyncio.Event] = field(default_factory=dict)

    @contextmanager
    def taken(self, tenant: str, model: str, digests: Iterable[bytes], most: int) -> Iterator[list[bytes]]:
        """The first ``most`` of the texts that nobody has, ours until the block ends."""
        free = (digest for digest in digests if (tenant, model, digest) not in self._under_way)
        mine = list(islice(free, most))
        landed = asyncio.Event()
        self._under_way |= {(tenant, model, digest): landed for digest in mine}
        try:
            yield mine
        finally:
            for digest in mine:
                del self._under_way[tenant, model, digest]
            landed.set()

    async def landed(self, tenant: str, model: str, digest: bytes) -> None:
        """Wait until whoever has the text now is through with it, however that ended."""
        landed = self._under_way.get((tenant, model, digest))
        if landed is not None:
            await landed.wait()
