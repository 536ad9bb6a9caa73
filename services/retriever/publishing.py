"""Vectors into the catalog, and a finished version into sight.

Invariant: a version is searchable as a whole or not at all: its chunks replace those of
the former one in one transaction, and the index follows before any search looks again.
"""

import hashlib
import json
from bisect import bisect_right
from collections.abc import Collection as AnyOf
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.chassis.errors import Failure, Reason
from services.retriever import catalog
from services.retriever.chunking import Chunk
from services.retriever.index import Entry
from services.retriever.ingestion_queue import Job, still_wanted
from services.retriever.states import State
from services.retriever.store import ChunkRow, CollectionRow, DocumentRow, VectorRow, VersionRow, in_turn

_BATCH = 500


@dataclass(frozen=True, slots=True)
class Finished:
    """What a job came to: its chunks under the title that they were indexed with, and the model of their vectors."""

    title: str
    chunks: tuple[Chunk, ...]
    model_digest: str
    # Where each page begins, in characters, and what is known to be amiss.
    pages: tuple[int, ...] = ()
    notice: str = ""


@dataclass(frozen=True, slots=True)
class Swap:
    """What the index must do to follow."""

    add: tuple[Entry, ...]
    remove: tuple[int, ...]


def text_digest(indexed_text: str) -> bytes:
    """The content address of what is embedded."""
    return hashlib.sha256(indexed_text.encode()).digest()


def chunk_id(job: Job, chunk: Chunk) -> int:
    """The chunk's number: 63 bits that follow from what it is, so that every rebuild gives the same."""
    named = [job.tenant, job.collection, job.document, job.version, chunk.start, chunk.end]
    digest = hashlib.sha256(json.dumps(named).encode() + text_digest(chunk.indexed_text)).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class Publisher:
    """Writes what ingestion computes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def unknown(self, job: Job, model_digest: str, digests: AnyOf[bytes]) -> set[bytes]:
        """Which of the digests have no vector of this model yet."""
        return await self._database.read(
            lambda session: set(digests) - set(_vectors(session, job.tenant, model_digest, list(digests)))
        )

    async def keep(self, job: Job, model_digest: str, vectors: Mapping[bytes, bytes]) -> bool:
        """Store vectors as they come, durable, so that a kill costs one batch; False when nobody wants them now."""

        def change(session: Session) -> bool:
            row = still_wanted(session, job)
            if row is None:
                return False
            known = _vectors(session, job.tenant, model_digest, list(vectors))
            fresh = [
                {"tenant": job.tenant, "model_digest": model_digest, "text_digest": digest, "vector": vector}
                for digest, vector in vectors.items()
                if digest not in known
            ]
            if fresh:
                session.execute(insert(VectorRow), fresh)
            row.chunks_embedded += len(fresh)
            session.get_one(CollectionRow, job.collection_number).vectors_computed += len(fresh)
            return True

        return await self._database.write(change)

    async def publish(self, job: Job, finished: Finished) -> Swap | None:
        """Make the version the serving one; None when a newer one or a deletion came first.

        Raises EMBEDDING_MODEL_CHANGED, and VectorsMissing when a deletion took vectors that
        this version shares.
        """
        return await self._database.write(lambda session: _publish(session, job, finished))

    async def forget(self, job: Job, digests: Sequence[bytes]) -> None:
        """Forget the vectors of a job that ended in nothing, those that nothing else uses."""

        def change(session: Session) -> None:
            in_turn(session, job.tenant)
            catalog.forget_unreferenced(session, job.tenant, digests)

        await self._database.write(change)


class VectorsMissing(Exception):
    """Vectors went away between embedding and publishing; embed again."""


def _publish(session: Session, job: Job, finished: Finished) -> Swap | None:
    row = still_wanted(session, job)
    if row is None:
        return None
    collection = session.get_one(CollectionRow, job.collection_number)
    if collection.embedding_digest not in ("", finished.model_digest):
        raise model_changed(collection, finished.model_digest)
    digests = {chunk: text_digest(chunk.indexed_text) for chunk in finished.chunks}
    vectors = _vectors(session, job.tenant, finished.model_digest, list(set(digests.values())))
    if len(vectors) < len(set(digests.values())):
        raise VectorsMissing
    mine = ChunkRow.document_number == row.number
    removed = tuple(session.scalars(select(ChunkRow.chunk).where(mine)))
    former = catalog.digests_of(session, mine)
    session.execute(delete(ChunkRow).where(mine))
    rows = [_row(job, chunk, digest, finished.pages) for chunk, digest in digests.items()]
    if rows:
        session.execute(insert(ChunkRow), rows)
    collection.embedding_digest = finished.model_digest
    _serve(session, row, job, finished)
    session.flush()
    catalog.forget_unreferenced(session, job.tenant, former)
    add = tuple(Entry(chunk_id(job, chunk), chunk.indexed_text, vectors[digest]) for chunk, digest in digests.items())
    kept = {entry.chunk for entry in add}
    return Swap(add, tuple(chunk for chunk in removed if chunk not in kept))


def _serve(session: Session, row: DocumentRow, job: Job, finished: Finished) -> None:
    if row.serving_version and row.serving_version != job.version:
        session.get_one(VersionRow, (row.number, row.serving_version)).state = State.SUPERSEDED
    session.get_one(VersionRow, (row.number, job.version)).state = State.READY
    row.title, row.serving_version = finished.title, job.version
    row.state, row.reason, row.notice = State.READY, "", finished.notice
    row.chunks = len(finished.chunks)
    row.chunks_reused = len(finished.chunks) - row.chunks_embedded


def _row(job: Job, chunk: Chunk, digest: bytes, pages: Sequence[int]) -> dict[str, object]:
    return {
        "chunk": chunk_id(job, chunk),
        "tenant": job.tenant,
        "collection_number": job.collection_number,
        "document_number": job.document_number,
        "version": job.version,
        "start": chunk.start,
        "end": chunk.end,
        "text": chunk.text,
        "context": chunk.context,
        "heading_path_json": json.dumps(chunk.heading_path),
        "first_page": bisect_right(pages, chunk.start),
        "last_page": bisect_right(pages, chunk.end - 1),
        "text_digest": digest,
    }


def _vectors(session: Session, tenant: str, model_digest: str, digests: Sequence[bytes]) -> dict[bytes, bytes]:
    """The tenant's vectors for these digests, those that it has."""
    found: dict[bytes, bytes] = {}
    for first in range(0, len(digests), _BATCH):
        query = select(VectorRow.text_digest, VectorRow.vector).where(
            VectorRow.tenant == tenant,
            VectorRow.model_digest == model_digest,
            VectorRow.text_digest.in_(digests[first : first + _BATCH]),
        )
        found.update((digest, vector) for digest, vector in session.execute(query))
    return found


def model_changed(collection: CollectionRow, serving: str) -> Failure:
    """The failure of mixing vectors of two models."""
    return Failure(
        Reason.EMBEDDING_MODEL_CHANGED,
        name=collection.collection,
        pinned=collection.embedding_digest,
        serving=serving,
    )
