"""The rows of a change of embedding model.

Invariant: what is written for a change is written only while that change is under way, and
goes with it; every function is one transaction's work, in the tenant's turn where it writes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from services.retriever import catalog
from services.retriever.index.index import Entry
from services.retriever.index.places import Kind, Place
from services.retriever.ingestion.embeddings import EncoderFacts
from services.retriever.ingestion.publishing import Finished, chunk_rows, vectors_of
from services.retriever.ingestion.queue import Job, job_of
from services.retriever.reembedding.state import undone
from services.retriever.store import (
    ChunkRow,
    CollectionRow,
    DocumentRow,
    NewChunkRow,
    ReembeddedRow,
    ReembeddingRow,
    VectorRow,
    VersionRow,
    in_turn,
)
from services.retriever.store_generated import QuestionVectorsRow

# MODEL@NUMBER may be longer than its column; it is for people, the digest is what counts.
_MOST_NAME = 128
_COLUMNS = (
    "chunk", "tenant", "collection_number", "document_number", "version", "start", "end", "text", "context",
    "heading_path_json", "first_page", "last_page", "text_digest",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Task:
    """A change that is under way."""

    tenant: str
    collection: int
    model_digest: str


def begin(session: Session, tenant: str, collection: str, facts: EncoderFacts, now: float) -> CollectionRow:
    """Note the change; one to another model is cancelled, and so is one when the collection has this model already."""
    in_turn(session, tenant)
    row = catalog.require(session, tenant, collection)
    present = session.get(ReembeddingRow, row.number)
    if present is not None and present.running and present.model_digest == facts.digest:
        return row
    if present is not None:
        _end(session, row, present)
    if row.embedding_digest in ("", facts.digest):
        # Nothing has vectors yet: those to come may be of any model.
        if not row.embedding_digest:
            row.embedding_digest = facts.digest
        return row
    session.add(
        ReembeddingRow(
            collection_number=row.number,
            tenant=tenant,
            model=facts.name[:_MOST_NAME],
            model_digest=facts.digest,
            dimensions=facts.dimensions,
            running=True,
            reason="",
            build=0,
            started_at=now,
        )
    )
    row.revision += 1
    return row


def cancel(session: Session, tenant: str, collection: str) -> CollectionRow:
    """Forget the change and what was made for it."""
    in_turn(session, tenant)
    row = catalog.require(session, tenant, collection)
    present = session.get(ReembeddingRow, row.number)
    if present is not None:
        _end(session, row, present)
    return row


def running(session: Session) -> list[Task]:
    """Every change under way, the oldest first."""
    query = select(ReembeddingRow).where(ReembeddingRow.running).order_by(ReembeddingRow.started_at)
    return [Task(row.tenant, row.collection_number, row.model_digest) for row in session.scalars(query)]


def next_document(session: Session, task: Task) -> Job | None:
    """A document whose serving version has no chunks under the new model yet."""
    if _present(session, task) is None:
        return None
    row = session.scalars(undone(task.collection).order_by(DocumentRow.number).limit(1)).one_or_none()
    if row is None:
        return None
    collection = session.get_one(CollectionRow, task.collection)
    version = session.get_one(VersionRow, (row.number, row.serving_version))
    return job_of(row, collection, version, pinned_digest=task.model_digest)


def serves(session: Session, job: Job) -> bool:
    """Whether the job's version is still the one that its document serves."""
    row = session.get(DocumentRow, job.document_number)
    return row is not None and row.serving_version == job.version


def keep(session: Session, task: Task, job: Job, vectors: Mapping[bytes, bytes]) -> bool:
    """Store vectors as they come; False when the change is no longer under way.

    Without effect where the document is gone or serves another version by now: nothing would take the vectors away again.
    """
    in_turn(session, task.tenant)
    if _present(session, task) is None:
        return False
    if not serves(session, job):
        return True
    known = vectors_of(session, task.tenant, task.model_digest, list(vectors))
    fresh = [
        {"tenant": task.tenant, "model_digest": task.model_digest, "text_digest": digest, "vector": vector}
        for digest, vector in vectors.items()
        if digest not in known
    ]
    if fresh:
        session.execute(insert(VectorRow), fresh)
    session.get_one(CollectionRow, task.collection).vectors_computed += len(fresh)
    return True


def store(session: Session, task: Task, job: Job, finished: Finished) -> bool:
    """Store a document's new chunks; without effect where another version serves by now.  False when cancelled."""
    in_turn(session, task.tenant)
    if _present(session, task) is None:
        return False
    if not serves(session, job):
        return True
    row = session.get_one(DocumentRow, job.document_number)
    made = chunk_rows(job, finished)
    held = vectors_of(session, task.tenant, task.model_digest, [it["text_digest"] for it in made])
    if any(it["text_digest"] not in held for it in made):
        return True
    session.execute(delete(ReembeddedRow).where(ReembeddedRow.document_number == row.number))
    done = ReembeddedRow(
        document_number=row.number,
        collection_number=task.collection,
        version=job.version,
        title=row.title,
        chunks=len(made),
    )
    session.add(done)
    session.flush()
    if made:
        session.execute(insert(NewChunkRow), made)
    return True


def place(session: Session, task: Task, default: Kind) -> Place | None:
    """Where the new index is built; None when the change is no longer under way."""
    in_turn(session, task.tenant)
    present = _present(session, task)
    if present is None:
        return None
    row = session.get_one(CollectionRow, task.collection)
    if not present.build:
        row.index_builds += 1
        present.build = row.index_builds
    return Place(Kind(row.index_kind) if row.index_kind else default, row.number, present.build)


def chunks(session: Session, task: Task) -> frozenset[int]:
    """The chunks under the new model."""
    return frozenset(session.scalars(select(NewChunkRow.chunk).where(NewChunkRow.collection_number == task.collection)))


def entries(session: Session, task: Task, chunks: list[int]) -> list[Entry]:
    """These chunks as they are indexed, with their new vectors."""
    query = (
        select(NewChunkRow.chunk, NewChunkRow.context, NewChunkRow.text, VectorRow.vector)
        .join(
            VectorRow,
            (VectorRow.tenant == NewChunkRow.tenant)
            & (VectorRow.model_digest == task.model_digest)
            & (VectorRow.text_digest == NewChunkRow.text_digest),
        )
        .where(NewChunkRow.chunk.in_(chunks))
    )
    return [
        Entry(chunk, f"{context}\n{text}" if context else text, vector)
        for chunk, context, text, vector in session.execute(query)
    ]


def flip(session: Session, task: Task, place: Place) -> bool:
    """Change the collection over, chunks, model and index as one; False when something came meanwhile.

    Its threshold of answers, which was one of the former model's scores, goes with that.
    """
    in_turn(session, task.tenant)
    present = _present(session, task)
    if present is None or session.scalars(undone(task.collection).limit(1)).one_or_none() is not None:
        return False
    row = session.get_one(CollectionRow, task.collection)
    session.execute(delete(ChunkRow).where(ChunkRow.collection_number == row.number))
    columns = [NewChunkRow.__table__.c[name] for name in _COLUMNS]
    new = select(*columns).where(NewChunkRow.collection_number == row.number)
    session.execute(insert(ChunkRow).from_select(list(_COLUMNS), new))
    for done in session.scalars(select(ReembeddedRow).where(ReembeddedRow.collection_number == row.number)):
        document = session.get_one(DocumentRow, done.document_number)
        if document.chunks != done.chunks:
            document.chunks = done.chunks
    former, row.embedding_digest = row.embedding_digest, task.model_digest
    row.index_kind, row.index_build = place.kind.value, place.build
    catalog.forget_threshold(row)
    row.revision += 1
    session.flush()
    session.delete(present)
    session.flush()
    _forget_vectors(session, task.tenant, former)
    return True


def stumble(session: Session, task: Task, sentence: str, *, waits: bool) -> None:
    """It waits for something, or has failed: then only the reason is kept."""
    in_turn(session, task.tenant)
    present = _present(session, task)
    if present is None:
        return
    if waits:
        present.reason = f"Waits: {sentence}"
        return
    present.running, present.reason, present.build = False, sentence, 0
    session.execute(delete(ReembeddedRow).where(ReembeddedRow.collection_number == task.collection))
    session.flush()
    _forget_vectors(session, task.tenant, task.model_digest)


def _present(session: Session, task: Task) -> ReembeddingRow | None:
    row = session.get(ReembeddingRow, task.collection)
    return row if row is not None and row.running and row.model_digest == task.model_digest else None


def _end(session: Session, row: CollectionRow, present: ReembeddingRow) -> None:
    digest = present.model_digest
    session.delete(present)
    row.revision += 1
    session.flush()
    _forget_vectors(session, row.tenant, digest)


def _forget_vectors(session: Session, tenant: str, digest: str) -> None:
    """Forget the tenant's vectors of a model that no collection with this model, nor a change to it, uses."""
    for rows in (VectorRow, QuestionVectorsRow):
        _forget(session, rows, tenant, digest)


def _forget(session: Session, rows: type[VectorRow] | type[QuestionVectorsRow], tenant: str, digest: str) -> None:
    served = (
        select(ChunkRow.chunk)
        .join(CollectionRow, CollectionRow.number == ChunkRow.collection_number)
        .where(
            ChunkRow.tenant == rows.tenant,
            ChunkRow.text_digest == rows.text_digest,
            CollectionRow.embedding_digest == digest,
        )
    )
    coming = (
        select(NewChunkRow.chunk)
        .join(ReembeddingRow, ReembeddingRow.collection_number == NewChunkRow.collection_number)
        .where(
            NewChunkRow.tenant == rows.tenant,
            NewChunkRow.text_digest == rows.text_digest,
            ReembeddingRow.model_digest == digest,
        )
    )
    mine = rows.tenant == tenant, rows.model_digest == digest
    session.execute(delete(rows).where(*mine, ~served.correlate(rows).exists(), ~coming.correlate(rows).exists()))
