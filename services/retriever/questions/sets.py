"""Question vectors as they are searched: a set of their own beside the index, whichever that is.

They are not mixed into the text's vector (a question appended to its text blurs both, arXiv
2510.09557): a chunk is as near as the nearest of its text and its questions.  A question
counts only if it finds its way back: of all chunks of its document the one that it was
written for must be the nearest.  Invariant: a set follows from the catalog alone, so one
that grew step by step and a fresh one are the same.
"""

import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from sqlalchemy import ColumnElement, and_, select
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.retriever.index.gates import Gates
from services.retriever.index.index import Vector
from services.retriever.index.vectors import Matrix
from services.retriever.search.arms import Looked
from services.retriever.search.fusion import ordered
from services.retriever.store import ChunkRow, CollectionRow, VectorRow
from services.retriever.store_generated import QuestionVectorsRow

_BATCH = 500
# Under this a question has little to do with its own chunk.
_LEAST = 0.3
# Cosines of binary16 that are this close are one.
_TIE = 1e-3

# A document's chunks, each with the number of questions that were asked for; 0 where none can be searched.
Signature = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """The vectors of every chunk's first question, of every second one, and so on; keys are the chunks."""

    places: tuple[Matrix, ...] = ()

    def nearest(self, vector: Vector, limit: int, allowed: Collection[int] | None) -> dict[int, float]:
        """By chunk the cosine of its nearest question, those that are among the ``limit`` nearest."""
        found: dict[int, float] = {}
        for matrix in self.places:
            rows = matrix if allowed is None else matrix.only(allowed)
            for chunk, score in rows.nearest(vector, limit).items():
                found[chunk] = max(score, found.get(chunk, score))
        return found


@dataclass(frozen=True, slots=True)
class WithQuestions:
    """The part of an index that searches look at, with question sets beside those of some collections."""

    index: Looked
    sets: Mapping[int, QuestionSet]

    def keyword(
        self, collection: int, words: tuple[str, ...], limit: int, allowed: Collection[int] | None
    ) -> Mapping[int, float]:
        """As the index says."""
        return self.index.keyword(collection, words, limit, allowed)

    def nearest(
        self, collection: int, vector: Vector, limit: int, allowed: Collection[int] | None
    ) -> Mapping[int, float]:
        """The nearest chunks by text or question, best first; exact, since a chunk's maximum leads in one of them."""
        texts = self.index.nearest(collection, vector, limit, allowed)
        asked = self.sets.get(collection, QuestionSet()).nearest(vector, limit, allowed)
        return _best(texts, asked, limit)

    def similarities(self, collection: int, vector: Vector, chunks: Collection[int]) -> Mapping[int, float]:
        """Cosine of just these chunks, by text or question."""
        texts = self.index.similarities(collection, vector, chunks)
        asked = self.sets.get(collection, QuestionSet()).nearest(vector, len(chunks), chunks)
        return _best(texts, {chunk: score for chunk, score in asked.items() if chunk in texts}, len(chunks))


@dataclass(slots=True)
class _Held:
    key: tuple[object, ...] = ()
    model: str = ""
    documents: dict[int, Signature] = field(default_factory=dict)
    questions: QuestionSet = field(default_factory=QuestionSet)


@dataclass(slots=True)
class QuestionSets:
    """The sets that were asked for, within ``most_bytes``.  Thread-safe; call inside the collection's gate."""

    database: Database
    gates: Gates
    most_bytes: int
    _held: dict[int, _Held] = field(default_factory=dict)
    _changes: dict[int, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def changed(self, collection: int) -> None:
        """Its questions have other vectors now."""
        self._changes[collection] = self._changes.get(collection, 0) + 1

    def of(self, collection: int, each: int) -> QuestionSet:
        """The first ``each`` questions of every chunk.  Blocks."""
        with self._lock:
            key = self._changes.get(collection, 0), self.gates.changes(collection), each
            held = self._held.pop(collection, None) or _Held()
            if held.key != key:
                held = self.database.read_now(partial(_followed, collection=collection, each=each, held=held))
                held.key = key
            # The one that was asked for last comes last.
            self._held[collection] = held
            self._evict(but=collection)
            return held.questions

    def known(self, collection: int) -> bool:
        """Whether what was last given of the collection holds a question."""
        with self._lock:
            held = self._held.get(collection)
            return held is not None and any(len(matrix) for matrix in held.questions.places)

    def _evict(self, *, but: int) -> None:
        while len(self._held) > 1 and sum(map(_bytes, self._held.values())) > self.most_bytes:
            self._held.pop(next(number for number in self._held if number != but))


def _followed(session: Session, collection: int, each: int, held: _Held) -> _Held:
    """What the catalog has now; only documents whose chunks or questions changed are read."""
    row = session.get(CollectionRow, collection)
    model = "" if row is None else row.embedding_digest
    if model != held.model or each != (held.key[-1] if held.key else each):
        held = _Held()
    documents = _documents(session, collection, model)
    changed = [number for number, signature in documents.items() if held.documents.get(number) != signature]
    gone = {
        chunk
        for number in [*changed, *(held.documents.keys() - documents.keys())]
        for chunk, _ in held.documents.get(number, ())
    }
    add: list[list[tuple[int, bytes]]] = [[] for _ in range(each)]
    for number in changed:
        if any(asked for _, asked in documents[number]):
            for chunk, questions in _kept(session, number, model, each):
                for place, vector in questions:
                    add[place].append((chunk, vector))
    former = held.questions.places or tuple(Matrix.of(()) for _ in range(each))
    places = tuple(matrix.changed(new, gone) for matrix, new in zip(former, add, strict=True))
    return _Held((), model, documents, QuestionSet(places))


def _documents(session: Session, collection: int, model: str) -> dict[int, Signature]:
    query = (
        select(ChunkRow.document_number, ChunkRow.chunk, QuestionVectorsRow.asked)
        .outerjoin(QuestionVectorsRow, _questions(model))
        .where(ChunkRow.collection_number == collection)
        .order_by(ChunkRow.document_number, ChunkRow.chunk)
    )
    found: dict[int, list[tuple[int, int]]] = {}
    for number, chunk, asked in session.execute(query):
        found.setdefault(number, []).append((chunk, asked or 0))
    return {number: tuple(chunks) for number, chunks in found.items()}


def _kept(session: Session, document: int, model: str, each: int) -> Iterable[tuple[int, list[tuple[int, bytes]]]]:
    """By chunk of a document its questions that find their way back, with their places."""
    query = (
        select(ChunkRow.chunk, VectorRow.vector, QuestionVectorsRow.vectors)
        .join(
            VectorRow,
            and_(
                VectorRow.tenant == ChunkRow.tenant,
                VectorRow.model_digest == model,
                VectorRow.text_digest == ChunkRow.text_digest,
            ),
        )
        .outerjoin(QuestionVectorsRow, _questions(model))
        .where(ChunkRow.document_number == document)
    )
    held = session.execute(query).all()
    texts = np.array([_floats(vector) for _, vector, _ in held], dtype=np.float32)
    for own, (chunk, vector, packed) in enumerate(held):
        size = len(vector)
        questions = [packed[at : at + size] for at in range(0, len(packed or b""), size)][:each]
        yield chunk, [(place, it) for place, it in enumerate(questions) if finds_back(_floats(it), own, texts)]


def finds_back(question: Vector, own: int, texts: Vector) -> bool:
    """Whether of a document's chunks, shape [chunks, dimensions], the question is nearest to its own."""
    near = texts @ question
    return bool(near[own] >= _LEAST and near[own] >= near.max() - _TIE)


def _questions(model: str) -> ColumnElement[bool]:
    return and_(
        QuestionVectorsRow.tenant == ChunkRow.tenant,
        QuestionVectorsRow.model_digest == model,
        QuestionVectorsRow.text_digest == ChunkRow.text_digest,
    )


def _floats(packed: bytes) -> Vector:
    return np.frombuffer(packed, dtype="<f2").astype(np.float32)


def _best(texts: Mapping[int, float], asked: Mapping[int, float], limit: int) -> dict[int, float]:
    merged = dict(texts)
    for chunk, score in asked.items():
        merged[chunk] = max(score, merged.get(chunk, score))
    return {hit.chunk: hit.score for hit in ordered(merged)[:limit]}


def _bytes(held: _Held) -> int:
    return sum(matrix.size_bytes for matrix in held.questions.places)
