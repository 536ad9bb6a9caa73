"""Finding passages: two lists a query, fused here, so that every index gives the same order.

Invariants: every hit is of a serving version; its text is the version's characters
[start, end); vectors of two models are never compared.
"""

import json
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.chassis.errors import Failure, Reason
from services.retriever import catalog, filters, fusion, selecting
from services.retriever.embeddings import Embeddings
from services.retriever.gates import Gates
from services.retriever.index import Index, Vector
from services.retriever.keywords import words
from services.retriever.publishing import model_changed
from services.retriever.question import Found, Fusion, Hit, Mode, Question
from services.retriever.stopwatch import Stopwatch
from services.retriever.store import ChunkRow, CollectionRow, DocumentRow

_BATCH = 500


@dataclass(slots=True)
class _Lists:
    """What the arms found for one query, over all collections: ``near`` is ``dense`` filled up for fusion."""

    dense: dict[int, float] = field(default_factory=dict)
    near: dict[int, float] = field(default_factory=dict)
    sparse: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Search:
    """The verb.  ``depth`` is the least length of each arm's list."""

    database: Database
    index: Index
    embeddings: Embeddings
    gates: Gates
    blocking: Callable[..., Awaitable[Any]]
    depth: int

    async def search(self, tenant: str, question: Question) -> Found:
        """Passages for the question.

        Raises QUESTION_EMPTY, FILTER_INVALID, FILTER_TYPE_MISMATCH, COLLECTION_NOT_FOUND,
        EMBEDDING_MODEL_CHANGED and, unless only keywords are looked for, PEER_UNAVAILABLE.
        """
        if question.filter is not None:
            filters.check(question.filter)
        for query in question.queries:
            if not query.strip():
                raise Failure(Reason.QUESTION_EMPTY, field="queries")
        watch = Stopwatch()
        rows = await self.database.read(
            lambda session: [catalog.require(session, tenant, name) for name in question.collections]
        )
        with watch.stage("embed"):
            vectors = await self._vectors(question, rows)
        numbers = list(dict.fromkeys(row.number for row in rows))
        async with self.gates.search(numbers):
            allowed = await self.database.read(lambda session: selecting.allowed(session, numbers, question))
            lists: list[_Lists] = await self.blocking(self._look, question, numbers, vectors, allowed, watch)
            with watch.stage("fuse"):
                best = _fused(question, lists)[: question.top_k]
                hits = await self._hits(tenant, best, lists)
        return Found(tuple(hits), watch.seconds)

    async def _vectors(self, question: Question, rows: list[CollectionRow]) -> list[Vector] | None:
        """A vector a query, [dimensions] each; None when vectors are not asked for or there is nothing to compare."""
        pinned = [row for row in rows if row.embedding_digest]
        if question.mode is Mode.SPARSE or not pinned:
            return None
        answer = await self.embeddings.queries(question.queries)
        for row in pinned:
            if row.embedding_digest != answer.digest:
                raise model_changed(row, answer.digest)
        return [np.frombuffer(packed, dtype="<f2").astype(np.float32) for packed in answer.packed]

    def _look(
        self,
        question: Question,
        numbers: list[int],
        vectors: list[Vector] | None,
        allowed: Mapping[int, Collection[int] | None],
        watch: Stopwatch,
    ) -> list[_Lists]:
        """Both arms over every collection, for each query.  Blocks."""
        depth = max(self.depth, question.top_k)
        found = []
        for place, query in enumerate(question.queries):
            lists = _Lists()
            wanted = words(query) if question.mode is not Mode.DENSE else ()
            for number in numbers:
                only = allowed[number]
                matching: Mapping[int, float] = {}
                with watch.stage("sparse"):
                    if wanted:
                        matching = self.index.keyword(number, wanted, depth, only)
                        lists.sparse.update(matching)
                with watch.stage("dense"):
                    if vectors is not None:
                        near = self.index.nearest(number, vectors[place], depth, only)
                        lists.dense.update(near)
                        # Keywords found these: how near they are counts as well, and is cheap to know.
                        others = [chunk for chunk in matching if chunk not in near]
                        lists.near.update({**near, **self.index.similarities(number, vectors[place], others)})
            found.append(lists)
        return found

    async def _hits(self, tenant: str, best: list[fusion.Scored], lists: list[_Lists]) -> list[Hit]:
        rows = await self.database.read(lambda session: _rows(session, tenant, [hit.chunk for hit in best]))
        return [
            Hit(
                **rows[hit.chunk],
                chunk=hit.chunk,
                score=hit.score,
                dense_score=max((it.dense[hit.chunk] for it in lists if hit.chunk in it.dense), default=None),
                sparse_score=max((it.sparse[hit.chunk] for it in lists if hit.chunk in it.sparse), default=None),
            )
            for hit in best
            if hit.chunk in rows
        ]


def _fused(question: Question, lists: list[_Lists]) -> list[fusion.Scored]:
    """One list for each query, and these by rank when there are several."""
    each = [fusion.ordered(_fused_arms(question, it)) for it in lists]
    if len(each) == 1:
        return each[0]
    return fusion.ordered(fusion.by_rank([[hit.chunk for hit in one] for one in each]))


def _fused_arms(question: Question, lists: _Lists) -> dict[int, float]:
    if question.mode is Mode.DENSE:
        return lists.dense
    if question.mode is Mode.SPARSE:
        return lists.sparse
    if question.fusion is Fusion.SCORE:
        return fusion.by_score(lists.near, lists.sparse, question.dense_weight)
    arms = (lists.dense, lists.sparse)
    return fusion.by_rank([[hit.chunk for hit in fusion.ordered(arm)] for arm in arms])


def _rows(session: Session, tenant: str, chunks: list[int]) -> dict[int, dict[str, Any]]:
    """What is shown of the chunks, by chunk."""
    found: dict[int, dict[str, Any]] = {}
    for first in range(0, len(chunks), _BATCH):
        query = (
            select(ChunkRow, DocumentRow.document, DocumentRow.title, CollectionRow.collection)
            .join(DocumentRow, DocumentRow.number == ChunkRow.document_number)
            .join(CollectionRow, CollectionRow.number == ChunkRow.collection_number)
            .where(ChunkRow.tenant == tenant, ChunkRow.chunk.in_(chunks[first : first + _BATCH]))
        )
        for chunk, document, title, collection in session.execute(query):
            found[chunk.chunk] = {
                "collection": collection,
                "document": document,
                "version": chunk.version,
                "start": chunk.start,
                "end": chunk.end,
                "text": chunk.text,
                "title": title,
                "heading_path": tuple(json.loads(chunk.heading_path_json)),
            }
    return found
