"""A new build of a collection's index, beside the one that serves.

Invariant: a build is used only after what it really holds was read back and is, by count
and by digest, what the catalog says.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from services.chassis.errors import Failure, Reason
from services.retriever.index.index import Entry, collective
from services.retriever.index.places import Place
from services.retriever.index.routing import Router
from services.retriever.text.tokens import Tokens

_BATCH = 500


@dataclass(frozen=True, slots=True)
class Catalogued:
    """What a build is to hold: all of its chunks, and the entries of some of them.  Both block."""

    chunks: Callable[[], frozenset[int]]
    entries: Callable[[list[int]], list[Entry]]


@dataclass(frozen=True, slots=True)
class Built:
    """What a build was found to hold."""

    chunks: int
    digest: str


@dataclass(slots=True)
class Builder:
    """Builds in threads.  ``blocking(function, *arguments)`` runs in one."""

    router: Router
    blocking: Callable[..., Awaitable[Any]]
    _tokens: Tokens = field(default_factory=Tokens)

    async def prepare(
        self, place: Place, wanted: Catalogued, report: Callable[[int, int], None] = lambda *_: None
    ) -> Built | None:
        """Fill the build while others write, and read it back; ``report`` hears chunks done and to be done.

        None where it holds something else than the catalog: what is written between two looks is told by nothing else.
        Raises PEER_UNAVAILABLE.
        """
        try:
            await self._complete(place, wanted, report)
            return await self._verified(place, wanted)
        except Failure as failure:
            if failure.reason is not Reason.INDEX_NOT_VERIFIED:
                raise
            return None

    async def finish(self, place: Place, wanted: Catalogued, prepared: Built | None) -> Built:
        """While nobody writes: add and remove what has come since it was prepared, and read it back unless that is done.

        Raises PEER_UNAVAILABLE, and INDEX_NOT_VERIFIED when it holds something else than it was given.
        """
        changed = await self._complete(place, wanted, lambda *_: None)
        return await self._verified(place, wanted) if changed or prepared is None else prepared

    async def _complete(self, place: Place, wanted: Catalogued, report: Callable[[int, int], None]) -> bool:
        """Add what is missing and remove what is too much, until it holds the chunks that are wanted; whether any was."""
        index = self.router.index(place.kind)
        await self.blocking(self.router.clear, place)
        chunks = await self.blocking(wanted.chunks)
        held = await self.blocking(index.members, place.number)
        missing = sorted(chunks - held)
        if held - chunks:
            await self.blocking(self.router.change, place, (), sorted(held - chunks))
        for first in range(0, len(missing), _BATCH):
            report(len(chunks) - len(missing) + first, len(chunks))
            entries = await self.blocking(wanted.entries, missing[first : first + _BATCH])
            await self.blocking(self.router.change, place, entries, ())
        report(len(chunks), len(chunks))
        found = await self.blocking(index.members, place.number)
        if found != chunks:
            raise _differs(place, len(chunks), len(found))
        return bool(held != chunks)

    async def _verified(self, place: Place, wanted: Catalogued) -> Built:
        """Count, and compare digests.  Raises INDEX_NOT_VERIFIED."""
        chunks = await self.blocking(wanted.chunks)
        expected = await self.blocking(self._digest, sorted(chunks), wanted)
        found = await self.blocking(self.router.index(place.kind).digest, place.number)
        if found != expected:
            raise _differs(place, len(chunks), len(chunks))
        return Built(len(chunks), found)

    async def drop(self, place: Place) -> None:
        """Forget a build; what an absent server keeps is dropped when it is mended."""
        try:
            await self.blocking(self.router.index(place.kind).drop, place.number)
        except Failure:
            self.router.lose(place.kind)

    def _digest(self, chunks: list[int], wanted: Catalogued) -> str:
        digests: list[bytes] = []
        for first in range(0, len(chunks), _BATCH):
            digests += self._tokens.digests(wanted.entries(chunks[first : first + _BATCH]))
        return collective(digests)


def _differs(place: Place, wanted: int, found: int) -> Failure:
    return Failure(Reason.INDEX_NOT_VERIFIED, index=place.kind.value, wanted=wanted, found=found)
