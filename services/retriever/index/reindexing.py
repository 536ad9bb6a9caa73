"""Moves a collection to another index, or builds its index anew, while it is searched.

Invariant: the old build serves until the new one is verified; then the collection changes
over in one transaction.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from sqlalchemy.orm import Session

from services.chassis import tasks
from services.chassis.database import Database
from services.chassis.errors import Failure, Reason
from services.retriever import catalog
from services.retriever.index.building import Builder, Catalogued
from services.retriever.index.gates import Gates
from services.retriever.index.places import Kind, Place
from services.retriever.index.repair import chunks_of, entries_in
from services.retriever.index.routing import Router
from services.retriever.store import CollectionRow, ReembeddingRow, in_turn


@dataclass(frozen=True, slots=True)
class Progress:
    """Chunks that are in the new build, of how many; the digest once it is verified and serves."""

    kind: Kind
    done: int
    total: int
    digest: str


@dataclass(frozen=True, slots=True)
class Reindexing:
    """The verb."""

    database: Database
    router: Router
    gates: Gates
    builder: Builder

    async def reindex(self, tenant: str, collection: str, kind: Kind | None) -> AsyncGenerator[Progress]:
        """Build the collection's index anew, in the index of this kind or where it is; progress as it goes.

        Who stops listening stops it, and the old build stays.  Raises COLLECTION_NOT_FOUND,
        COLLECTION_REEMBEDDING, INDEX_NOT_SET, PEER_UNAVAILABLE, INDEX_NOT_VERIFIED.
        """
        number = await self.database.read(lambda session: catalog.require(session, tenant, collection).number)
        wanted_kind = kind or self.router.place(number).kind
        if wanted_kind not in self.router.indexes:
            raise Failure(Reason.INDEX_NOT_SET, name=wanted_kind.value)
        place, model = await self.database.write(partial(_begin, number=number, kind=wanted_kind))
        reports: asyncio.Queue[Progress] = asyncio.Queue()

        def report(done: int, total: int) -> None:
            reports.put_nowait(Progress(place.kind, done, total, ""))

        task = asyncio.create_task(self._move(place, model, report))
        try:
            while not (task.done() and reports.empty()):
                ready = asyncio.create_task(reports.get())
                await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
                if not ready.done():
                    ready.cancel()
                    continue
                yield ready.result()
            yield await task
        finally:
            with suppress(Failure):
                await tasks.end(task)

    async def _move(self, place: Place, model: str, report: Callable[[int, int], None]) -> Progress:
        wanted = Catalogued(partial(chunks_of, self.database, place.collection), partial(entries_in, self.database))
        with self.router.building(place):
            try:
                prepared = await self.builder.prepare(place, wanted, report)
                async with self.gates.change(place.collection):
                    # What came while it was built is little, so that searches wait for moments.
                    built = await self.builder.finish(place, wanted, prepared)
                    await self.database.write(partial(_flip, place=place, model=model))
                    former = self.router.place(place.collection)
                    self.router.move(place)
            except BaseException:
                if self.router.place(place.collection) != place:
                    await asyncio.shield(self.builder.drop(place))
                raise
        await self.builder.drop(former)
        return Progress(place.kind, built.chunks, built.chunks, built.digest)


def _begin(session: Session, number: int, kind: Kind) -> tuple[Place, str]:
    """The place of the next build, and the model of the vectors that will be in it."""
    row = session.get_one(CollectionRow, number)
    in_turn(session, row.tenant)
    under_way = session.get(ReembeddingRow, number)
    if under_way is not None and under_way.running:
        raise Failure(Reason.COLLECTION_REEMBEDDING, name=row.collection)
    row.index_builds += 1
    return Place(kind, number, row.index_builds), row.embedding_digest


def _flip(session: Session, place: Place, model: str) -> None:
    row = session.get(CollectionRow, place.collection)
    if row is None:
        raise Failure(Reason.COLLECTION_NOT_FOUND, name=str(place.collection), nearest=())
    in_turn(session, row.tenant)
    # Vectors of two models have the same chunks: only this tells them apart.
    if model and row.embedding_digest != model:
        raise Failure(Reason.COLLECTION_REEMBEDDING, name=row.collection)
    row.index_kind, row.index_build = place.kind.value, place.build
    row.revision += 1
