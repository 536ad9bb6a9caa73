"""Vectors into the catalog, and a finished version into sight.

Invariants: a version is searchable as a whole or not at all: its chunks replace those of
the former one in one transaction, and the index follows before any search looks again; the
index is told of what differs alone.
"""

import hashlib
import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection as AnyOf
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.chassis.errors import Failure, Reason
from services.retriever.documents.states import State
from services.retriever.index.index import Entry
from services.retriever.ingestion import holds
from services.retriever.ingestion.queue import Job, still_wanted
from services.retriever.store import ChunkRow, CollectionRow, DocumentRow, VectorRow, VersionRow, renewal
from services.retriever.summaries import nodes
from services.retriever.text.chunking import Chunk

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


def chunk_ids(job: Job, chunks: Sequence[Chunk]) -> list[int]:
    """The chunks' numbers, 63 bits each.

    A number follows from the document, what is embedded, and how often the document had that
    before: every rebuild gives the same, and so does every version that holds the chunk.
    """
    occurrences: Counter[bytes] = Counter()
    numbers = []
    for chunk in chunks:
        text = text_digest(chunk.indexed_text)
        named = json.dumps([job.tenant, job.collection, job.document, occurrences[text]])
        occurrences[text] += 1
        numbers.append(int.from_bytes(hashlib.sha256(named.encode() + text).digest()[:8], "big") >> 1)
    return numbers


class Publisher:
    """Writes what ingestion computes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def unknown(self, job: Job, model_digest: str, digests: AnyOf[bytes]) -> set[bytes]:
        """Which of the digests have no vector of this model yet."""
        return await self._database.read(
            lambda session: set(digests) - set(vectors_of(session, job.tenant, model_digest, list(digests)))
        )

    async def keep(self, job: Job, model_digest: str, vectors: Mapping[bytes, bytes]) -> bool:
        """Store vectors as they come, durable, so that a kill costs one batch; False when nobody wants them now.

        Then too they are kept as long as there is a reason to (``holds``).
        """
        return await self._database.write(lambda session: _keep(session, job, model_digest, vectors))

    async def publish(self, job: Job, finished: Finished) -> Swap | None:
        """Make the version the serving one; None when a newer one or a deletion came first.

        Raises EMBEDDING_MODEL_CHANGED, and VectorsMissing when a deletion took vectors that
        this version shares.
        """
        return await self._database.write(lambda session: _publish(session, job, finished))


class VectorsMissing(Exception):
    """Vectors went away between embedding and publishing; embed again."""


def _keep(session: Session, job: Job, model_digest: str, vectors: Mapping[bytes, bytes]) -> bool:
    wanted = still_wanted(session, job)
    row = session.get(DocumentRow, job.document_number)
    known = vectors_of(session, job.tenant, model_digest, list(vectors))
    fresh = [
        {"tenant": job.tenant, "model_digest": model_digest, "text_digest": digest, "vector": vector}
        for digest, vector in vectors.items()
        if digest not in known
    ]
    digests = [digest for digest in vectors if digest not in known]
    if row is not None:
        holds.hold(session, job.tenant, row.number, digests)
    elif not holds.hold_for_the_queue(session, job.tenant, digests):
        return False
    if fresh:
        session.execute(insert(VectorRow), fresh)
    collection = session.get(CollectionRow, job.collection_number)
    if collection is not None:
        collection.vectors_computed += len(fresh)
    if wanted is not None:
        wanted.chunks_embedded += len(fresh)
    return wanted is not None


def _publish(session: Session, job: Job, finished: Finished) -> Swap | None:
    row = still_wanted(session, job)
    if row is None:
        return None
    collection = session.get_one(CollectionRow, job.collection_number)
    if collection.embedding_digest not in ("", finished.model_digest):
        raise model_changed(collection, finished.model_digest)
    numbered = dict(zip(chunk_ids(job, finished.chunks), finished.chunks, strict=True))
    digests = {number: text_digest(chunk.indexed_text) for number, chunk in numbered.items()}
    vectors = vectors_of(session, job.tenant, finished.model_digest, list(set(digests.values())))
    if len(vectors) < len(set(digests.values())):
        raise VectorsMissing
    mine = ChunkRow.document_number == row.number
    held = session.execute(select(ChunkRow.chunk, ChunkRow.text_digest).where(mine))
    former: dict[int, bytes] = {row.chunk: row.text_digest for row in held}
    session.execute(delete(ChunkRow).where(mine))
    rows = chunk_rows(job, finished)
    if rows:
        session.execute(insert(ChunkRow), rows)
    collection.embedding_digest = finished.model_digest
    _serve(session, row, job, finished)
    session.flush()
    # The former version is still there, and may be put again.
    holds.hold(session, job.tenant, row.number, set(former.values()))
    holds.used_by_chunks(session, job.tenant, row.number)
    holds.settle(session, job.tenant)
    add = tuple(
        Entry(number, chunk.indexed_text, vectors[digests[number]])
        for number, chunk in numbered.items()
        if number not in former
    )
    gone = former.keys() - numbered.keys()
    if add or gone:
        # The same text may be cut in another way.
        session.execute(renewal(CollectionRow.number == row.collection_number))
    nodes.forget_passages(session, row.number, gone)
    return Swap(add, tuple(number for number in former if number in gone))


def _serve(session: Session, row: DocumentRow, job: Job, finished: Finished) -> None:
    if row.serving_version and row.serving_version != job.version:
        session.get_one(VersionRow, (row.number, row.serving_version)).state = State.SUPERSEDED
    session.get_one(VersionRow, (row.number, job.version)).state = State.READY
    row.title, row.serving_version = finished.title, job.version
    row.state, row.reason, row.notice = State.READY, "", finished.notice
    row.chunks = len(finished.chunks)
    row.chunks_reused = len(finished.chunks) - row.chunks_embedded


def chunk_rows(job: Job, finished: Finished) -> list[dict[str, Any]]:
    """The rows of a version's chunks."""
    numbered = zip(chunk_ids(job, finished.chunks), finished.chunks, strict=True)
    return [_row(job, number, it, text_digest(it.indexed_text), finished.pages) for number, it in numbered]


def _row(job: Job, number: int, chunk: Chunk, digest: bytes, pages: Sequence[int]) -> dict[str, Any]:
    return {
        "chunk": number,
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


def vectors_of(session: Session, tenant: str, model_digest: str, digests: Sequence[bytes]) -> dict[bytes, bytes]:
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
