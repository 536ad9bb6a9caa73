"""The rows of generated questions: what is to be written, what is to be embedded, how far it is.

Invariant: questions belong to a text, not to a chunk: they are written once for each text
that the tenant has, however often it moves, and are gone with the last reason to keep its
vector (``ingestion/holds.py``).
"""

import json
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, and_, delete, func, or_, select
from sqlalchemy.orm import Session

from services.retriever.store import ChunkRow, CollectionRow, HoldRow, in_turn, renewal
from services.retriever.store_generated import QuestionsRow, QuestionVectorsRow


@dataclass(frozen=True, slots=True)
class Unwritten:
    """A text that is to have ``wanted`` questions."""

    tenant: str
    collection: int
    digest: bytes
    text: str
    wanted: int


@dataclass(frozen=True, slots=True)
class Unembedded:
    """Questions of a text that have no vectors of a model yet."""

    tenant: str
    collection: int
    digest: bytes
    model_digest: str
    questions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """Chunks, those of them whose questions can be searched, and why the others wait."""

    chunks: int
    done: int
    reason: str


def unwritten(session: Session, most: int) -> list[Unwritten]:
    """Some texts whose questions are to be written."""
    query = (
        select(ChunkRow, CollectionRow.questions_per_chunk)
        .join(CollectionRow, CollectionRow.number == ChunkRow.collection_number)
        .outerjoin(QuestionsRow, _of_chunk(QuestionsRow))
        .where(
            CollectionRow.questions_per_chunk > 0,
            or_(QuestionsRow.asked.is_(None), QuestionsRow.asked < CollectionRow.questions_per_chunk),
        )
        .limit(most)
    )
    found: dict[tuple[str, bytes], Unwritten] = {}
    for chunk, wanted in session.execute(query):
        text = f"{chunk.context}\n{chunk.text}" if chunk.context else chunk.text
        found[chunk.tenant, chunk.text_digest] = Unwritten(
            chunk.tenant, chunk.collection_number, chunk.text_digest, text, wanted
        )
    return list(found.values())


def unembedded(session: Session, most: int) -> list[Unembedded]:
    """Some texts whose questions are to be embedded."""
    query = (
        select(ChunkRow.tenant, ChunkRow.collection_number, ChunkRow.text_digest, CollectionRow.embedding_digest)
        .add_columns(QuestionsRow.questions_json)
        .join(CollectionRow, CollectionRow.number == ChunkRow.collection_number)
        .join(QuestionsRow, _of_chunk(QuestionsRow))
        .outerjoin(QuestionVectorsRow, _embedded())
        .where(CollectionRow.questions_per_chunk > 0, QuestionVectorsRow.text_digest.is_(None))
        .limit(most)
    )
    found = {
        (tenant, model, digest): Unembedded(tenant, number, digest, model, tuple(json.loads(questions)))
        for tenant, number, digest, model, questions in session.execute(query)
    }
    return list(found.values())


def keep_questions(session: Session, task: Unwritten, writer: str, questions: list[str]) -> None:
    """Store what was written, unless its text is gone; what was embedded of fewer questions goes."""
    in_turn(session, task.tenant)
    if not _wanted(session, task.tenant, task.digest):
        return
    key = task.tenant, task.digest
    row = session.get(QuestionsRow, key) or QuestionsRow(tenant=task.tenant, text_digest=task.digest)
    row.writer, row.asked, row.questions_json = writer, task.wanted, json.dumps(questions)
    session.add(row)
    embedded = QuestionVectorsRow.tenant == task.tenant, QuestionVectorsRow.text_digest == task.digest
    if session.scalars(delete(QuestionVectorsRow).where(*embedded).returning(QuestionVectorsRow.text_digest)).all():
        _renew(session, task)
    _settled(session, task.collection)


def keep_vectors(session: Session, task: Unembedded, packed: bytes) -> list[int]:
    """Store the vectors, one behind the other, unless the text or these questions are gone; the collections with it."""
    in_turn(session, task.tenant)
    held = session.get(QuestionsRow, (task.tenant, task.digest))
    collection = session.get(CollectionRow, task.collection)
    if held is None or tuple(json.loads(held.questions_json)) != task.questions:
        return []
    if collection is None or collection.embedding_digest != task.model_digest:
        # It changed its model meanwhile: vectors of the former one would stay for nobody.
        return []
    key = task.tenant, task.model_digest, task.digest
    if session.get(QuestionVectorsRow, key) is None:
        row = QuestionVectorsRow(tenant=task.tenant, model_digest=task.model_digest, text_digest=task.digest)
        row.asked, row.vectors = held.asked, packed
        session.add(row)
        _renew(session, task)
    _settled(session, task.collection)
    chunks = ChunkRow.tenant == task.tenant, ChunkRow.text_digest == task.digest
    return list(session.scalars(select(ChunkRow.collection_number).where(*chunks).distinct()))


def stumble(session: Session, collection: int, sentence: str) -> None:
    """Say why a collection's questions wait."""
    row = session.get(CollectionRow, collection)
    if row is not None:
        in_turn(session, row.tenant)
        row.questions_reason = f"Waits: {sentence}"


def any_wanted(session: Session) -> bool:
    """Whether any collection is to have questions."""
    query = select(CollectionRow.number).where(CollectionRow.questions_per_chunk > 0).limit(1)
    return session.scalar(query) is not None


def progress(session: Session, row: CollectionRow) -> Progress | None:
    """How far a collection is; None where it is to have no questions."""
    if not row.questions_per_chunk:
        return None
    mine = ChunkRow.collection_number == row.number
    chunks = session.scalar(select(func.count()).select_from(ChunkRow).where(mine)) or 0
    done = session.scalar(select(func.count()).select_from(searchable(row.number).subquery())) or 0
    return Progress(chunks, done, row.questions_reason)


def searchable(number: int) -> Select[int]:
    """The chunks of a collection whose questions have vectors of its model."""
    return (
        select(ChunkRow.chunk)
        .join(CollectionRow, CollectionRow.number == ChunkRow.collection_number)
        .join(QuestionVectorsRow, _embedded())
        .where(ChunkRow.collection_number == number)
    )


def _of_chunk(rows: type[QuestionsRow] | type[QuestionVectorsRow]) -> ColumnElement[bool]:
    return and_(rows.tenant == ChunkRow.tenant, rows.text_digest == ChunkRow.text_digest)


def _embedded() -> ColumnElement[bool]:
    return and_(_of_chunk(QuestionVectorsRow), QuestionVectorsRow.model_digest == CollectionRow.embedding_digest)


def _wanted(session: Session, tenant: str, digest: bytes) -> bool:
    reasons = (
        select(rows.tenant).where(rows.tenant == tenant, rows.text_digest == digest).limit(1)
        for rows in (ChunkRow, HoldRow)
    )
    return any(session.scalar(reason) is not None for reason in reasons)


def _renew(session: Session, task: Unwritten | Unembedded) -> None:
    """Give another version to the collections that are searched by the questions of the task's text."""
    holders = select(ChunkRow.collection_number).where(
        ChunkRow.tenant == task.tenant, ChunkRow.text_digest == task.digest
    )
    asking = and_(CollectionRow.number.in_(holders), CollectionRow.questions_per_chunk > 0)
    # By number, as use is written down (``expiry``), which waits for no turn: in another order PostgreSQL would have to
    # end one of the two.  The task's own is among them, for ``_settled`` changes it later.
    changed = or_(asking, CollectionRow.number == task.collection)
    locked = select(CollectionRow.number).where(CollectionRow.tenant == task.tenant, changed)
    session.execute(locked.order_by(CollectionRow.number).with_for_update(key_share=True))
    session.execute(renewal(asking), execution_options={"synchronize_session": False})


def _settled(session: Session, collection: int) -> None:
    row = session.get(CollectionRow, collection)
    if row is not None and row.questions_reason:
        row.questions_reason = ""
