"""Brings an index to what the catalog says: at every start, and whenever it was away.

Invariant: afterwards the index holds exactly the chunks of the serving versions, of each
collection in its place, and nothing else; it does not matter whether it was whole, behind
after a kill, damaged, or missing.
"""

from collections.abc import Iterator
from functools import partial

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.retriever.index.index import Entry
from services.retriever.index.places import Kind, Place
from services.retriever.index.routing import Router
from services.retriever.ingestion import holds
from services.retriever.store import ChunkRow, CollectionRow, VectorRow

_BATCH = 500


def repair(database: Database, router: Router, kind: Kind) -> tuple[int, int]:
    """Add what is missing in the index of a kind and remove what is too much; how many chunks of each.

    Nothing else may change meanwhile.  Blocks.  Raises PEER_UNAVAILABLE.
    """
    losses = router.losses(kind)
    mine = settle(database, router, kind)
    moved = [repair_collection(database, router, place) for place in mine]
    router.mended(kind, losses)
    return sum(added for added, _ in moved), sum(removed for _, removed in moved)


def settle(database: Database, router: Router, kind: Kind) -> list[Place]:
    """The places of a kind, as the catalog has them; what the index holds beside them is dropped.  Blocks."""
    database.write_now(holds.sweep)
    # Before the catalog is read: a build that comes to serve in between is in one of the two.
    under_way = router.numbers_under_way(kind)
    places = database.read_now(partial(_places, default=router.default))
    for place in places:
        router.move(place)
    mine = [place for place in places if place.kind is kind]
    index = router.index(kind)
    for stray in index.collections() - under_way - {place.number for place in mine}:
        index.drop(stray)
    return mine


def repair_collection(database: Database, router: Router, place: Place) -> tuple[int, int]:
    """Bring one build of a collection's index to the catalog's state; chunks added and removed.  Blocks."""
    router.clear(place)
    wanted = database.read_now(partial(_chunks, number=place.collection))
    held = router.index(place.kind).members(place.number)
    router.change(place, [], list(held - wanted))
    missing = sorted(wanted - held)
    for entries in entries_of(database, missing):
        router.change(place, entries, [])
    return len(missing), len(held - wanted)


def entries_of(database: Database, chunks: list[int]) -> Iterator[list[Entry]]:
    """The chunks as they are indexed, in batches.  Blocks."""
    for first in range(0, len(chunks), _BATCH):
        yield entries_in(database, chunks[first : first + _BATCH])


def entries_in(database: Database, chunks: list[int]) -> list[Entry]:
    """These chunks as they are indexed.  Blocks."""
    return database.read_now(partial(_entries, chunks=chunks))


def chunks_of(database: Database, collection: int) -> frozenset[int]:
    """The chunks of a collection's serving versions.  Blocks."""
    return database.read_now(partial(_chunks, number=collection))


def _places(session: Session, default: Kind) -> list[Place]:
    rows = session.execute(select(CollectionRow.number, CollectionRow.index_kind, CollectionRow.index_build))
    return [Place(Kind(kind) if kind else default, number, build) for number, kind, build in rows]


def _chunks(session: Session, number: int) -> frozenset[int]:
    return frozenset(session.scalars(select(ChunkRow.chunk).where(ChunkRow.collection_number == number)))


def _entries(session: Session, chunks: list[int]) -> list[Entry]:
    query = (
        select(ChunkRow.chunk, ChunkRow.context, ChunkRow.text, VectorRow.vector)
        .join(CollectionRow, CollectionRow.number == ChunkRow.collection_number)
        .join(
            VectorRow,
            (VectorRow.tenant == ChunkRow.tenant)
            & (VectorRow.model_digest == CollectionRow.embedding_digest)
            & (VectorRow.text_digest == ChunkRow.text_digest),
        )
        .where(ChunkRow.chunk.in_(chunks))
    )
    return [
        Entry(chunk, f"{context}\n{text}" if context else text, vector)
        for chunk, context, text, vector in session.execute(query)
    ]
