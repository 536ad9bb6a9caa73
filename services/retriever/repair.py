"""Brings the index to what the catalog says, at every start.

Invariant: afterwards the index holds exactly the chunks of the serving versions; it does
not matter whether it was whole, behind after a kill, damaged, or missing.
"""

from functools import partial

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.retriever import holds
from services.retriever.index import Entry, Index
from services.retriever.store import ChunkRow, CollectionRow, VectorRow

_BATCH = 500


def repair(database: Database, index: Index) -> tuple[int, int]:
    """Add what is missing and remove what is too much; how many chunks of each.  Blocks."""
    database.write_now(holds.sweep)
    numbers = database.read_now(lambda session: list(session.scalars(select(CollectionRow.number))))
    for stray in index.collections() - set(numbers):
        index.drop(stray)
    added = removed = 0
    for number in numbers:
        wanted = database.read_now(partial(_chunks, number=number))
        held = index.members(number)
        index.replace(number, [], list(held - wanted))
        missing = sorted(wanted - held)
        for first in range(0, len(missing), _BATCH):
            some = missing[first : first + _BATCH]
            entries = database.read_now(partial(_entries, chunks=some))
            index.replace(number, entries, [])
        added += len(missing)
        removed += len(held - wanted)
    return added, removed


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
