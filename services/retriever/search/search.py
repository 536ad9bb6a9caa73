"""Finding passages: two lists a query, fused here, so that every index gives the same order.

Invariants: every hit is of a serving version that the viewer may read; its text is the
version's characters [start, end); vectors of two models are never compared.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.chassis.errors import Failure, Reason
from services.retriever import catalog
from services.retriever.expiry import require_live
from services.retriever.index.gates import Gates
from services.retriever.ingestion.embeddings import Embeddings
from services.retriever.ingestion.publishing import model_changed
from services.retriever.search import (
    answerable,
    arms,
    evidence,
    expansion,
    filters,
    passages,
    ranking,
    selecting,
    shaping,
)
from services.retriever.search.answerable import Answerability
from services.retriever.search.expansion import Expanded, Expander
from services.retriever.search.looking import CollectionMoved, Looking, QuestionVectors, Sought, asked_of, versions
from services.retriever.search.pages import Pages
from services.retriever.search.question import Found, Hit, Mode, Place, Question, Ranked
from services.retriever.search.reranking import Reranker, Scores
from services.retriever.search.settings import Hyde, SearchSettings, Stated, everything, joined, planned
from services.retriever.search.stopwatch import Stopwatch
from services.retriever.store import CollectionRow


def _nobody(_: Iterable[int]) -> None:
    """Counts no use."""


@dataclass(frozen=True, slots=True)
class Search:
    """The verb."""

    database: Database
    looking: Looking
    embeddings: Embeddings
    gates: Gates
    pages: Pages
    reranker: Reranker
    expander: Expander
    # Told the numbers of collections that are searched.
    used: Callable[[Iterable[int]], None] = _nobody

    async def search(self, tenant: str, question: Question, stated: Stated | None = None) -> Found:
        """Passages for the question; ``stated`` is what its request says of how, all of it where there is none.

        Raises QUESTION_EMPTY, FILTER_INVALID, FILTER_TYPE_MISMATCH, PAGE_TOKEN_INVALID,
        SEARCH_PAGES_EXPIRED, COLLECTION_NOT_FOUND, COLLECTION_EXPIRED, EMBEDDING_MODEL_CHANGED, EMBEDDING_MODELS_DIFFER,
        GENERATOR_NOT_SET, EMBEDDING_MODEL_NOT_FOUND for a reranker that is named and not there and, unless only keywords
        are looked for, PEER_UNAVAILABLE.
        """
        _check(question)
        said = stated or everything(question)
        if said.generates:
            self.expander.generator.require()
        watch = Stopwatch()
        while True:
            try:
                return await self._search(tenant, question, said, watch)
            except CollectionMoved:
                # The collection changed over to another embedding model or other settings meanwhile: ask by those.
                continue

    async def _search(self, tenant: str, question: Question, stated: Stated, watch: Stopwatch) -> Found:
        rows = await self.database.read(
            lambda session: [require_live(session, tenant, name) for name in question.collections]
        )
        self.used(row.number for row in rows)
        if question.paging.token:
            return await self._next_page(tenant, question, rows, watch)
        plan = planned(question, stated, [SearchSettings.unpacked(row.search_settings_json) for row in rows])
        with watch.stage("embed"):
            vectors = await self._vectors(plan.question, rows)
        numbers = list(dict.fromkeys(row.number for row in rows))
        sought = Sought(plan, vectors, questions=asked_of(rows) if plan.question_vectors and vectors else {})
        expanded = await self._expanded(numbers, sought, watch) if plan.expands else []
        sought = replace(sought, extras=tuple(extra for it in expanded for extra in it.extras))
        scores = await self._scores(tenant, numbers, sought, watch) if sought.question.shape.rerank_depth else None
        async with self.gates.search(numbers):
            lists = await self.looking.lists(tenant, numbers, sought, watch)
            with watch.stage("fuse"):
                order = ranking.order(sought.question, lists)
                order = await self.database.read(shaping.reader(tenant, sought.question, order, scores))
                found = await self._page(tenant, question, order[: question.top_k], rows)
            answerability = await self._answerability(tenant, sought.question, rows, lists, watch)
        whole = replace(
            found,
            seconds=watch.seconds,
            reranking=scores.outcome if scores else None,
            expansions=(*(it.outcome for it in expanded), *self.looking.questioned(sought)),
            answerability=answerability,
        )
        return _told(sought.question, lists, whole)

    async def _answerability(
        self,
        tenant: str,
        question: Question,
        rows: list[CollectionRow],
        lists: Sequence[arms.Lists],
        watch: Stopwatch,
    ) -> Answerability | None:
        """Whether what was found seems to answer one of the queries; of hybrid searches, which have seen both lists."""
        if question.mode is not Mode.HYBRID:
            return None
        with watch.stage("answerable"):
            # Of the question's own words: what a generator wrote says nothing of the collection.
            own = lists[: len(question.queries)]
            looked = evidence.looked_at(own)
            held = await self.database.read(lambda session: passages.materials(session, tenant, looked))
            texts = {chunk: it.indexed_text for chunk, it in held.items()}
            numbers = list(dict.fromkeys(row.number for row in rows))
            look = self.looking
            each = await look.blocking(evidence.of_each, look.index, look.tokens, numbers, question.queries, own, texts)
        threshold = min(catalog.threshold(row) for row in rows)
        stored = (SearchSettings.unpacked(row.search_settings_json) for row in rows)
        return replace(answerable.judged(each, threshold), abstention=joined(list(stored)).abstention or "")

    async def raw(self, tenant: str, question: Question) -> tuple[arms.Lists, dict[int, str]]:
        """The two lists of a question before fusion, over one collection, and the document of each chunk in them.

        Raises as :meth:`search`.
        """
        _check(question)
        plan = planned(question, everything(question), [])
        while True:
            rows = await self.database.read(
                lambda session: [catalog.require(session, tenant, name) for name in question.collections]
            )
            sought = Sought(plan, await self._vectors(question, rows))
            try:
                async with self.gates.search([row.number for row in rows]):
                    (lists,) = await self.looking.first([row.number for row in rows], sought, Stopwatch())
                    chunks = list(lists.near.keys() | lists.sparse.keys())
                    named = await self.database.read(partial(passages.documents, tenant=tenant, chunks=chunks))
                    return lists, named
            except CollectionMoved:
                continue

    async def _expanded(self, numbers: list[int], sought: Sought, watch: Stopwatch) -> list[Expanded]:
        """What else to look for.  No gate is held while the generator writes, or ingestion would wait for it."""
        weak = True
        if sought.plan.hyde is Hyde.WEAK and sought.vectors is not None:
            async with self.gates.search(numbers):
                weak = expansion.weak(await self.looking.first(numbers, sought, watch))
        with watch.stage("expand"):
            digest = sought.vectors.digest if sought.vectors else ""
            return await self.expander.expanded(sought.plan, digest, weak=weak)

    async def _scores(self, tenant: str, numbers: list[int], sought: Sought, watch: Stopwatch) -> Scores:
        """What the reranker says of the best.

        The gate is open while it works, or ingestion would wait for it, and all other searches for that; so the
        lists are taken once more afterwards.
        """
        question = sought.question
        async with self.gates.search(numbers):
            order = ranking.order(question, await self.looking.lists(tenant, numbers, sought, watch))
            chunks = [it.chunk for it in order[: question.shape.rerank_depth]]
            held = await self.database.read(lambda session: passages.materials(session, tenant, chunks))
        texts = list(dict.fromkeys(held[chunk].indexed_text for chunk in chunks if chunk in held))
        with watch.stage("rerank"):
            shape = question.shape
            return await self.reranker.scores(
                question.queries[0], texts, shape.rerank_model, needed=shape.rerank_model_needed
            )

    async def _vectors(self, question: Question, rows: list[CollectionRow]) -> QuestionVectors | None:
        """A vector a query; None when vectors are not asked for or there is nothing to compare."""
        pinned = [row for row in rows if row.embedding_digest]
        if question.mode is Mode.SPARSE or not pinned:
            return None
        _require_one_model(pinned)
        answer = await self.embeddings.of(pinned[0].embedding_digest).queries(question.queries)
        for row in pinned:
            if row.embedding_digest != answer.digest:
                raise model_changed(row, answer.digest)
        each = [np.frombuffer(packed, dtype="<f2").astype(np.float32) for packed in answer.packed]
        return QuestionVectors(answer.digest, each)

    async def _page(
        self, tenant: str, question: Question, order: Sequence[Ranked], rows: Sequence[CollectionRow]
    ) -> Found:
        """The first page of an order, with what leads to the next."""
        hits, taken, of = await self._hits(tenant, question, order, rows)
        token = self.pages.token(order[taken:], question.paging.binding) if question.paging.size else ""
        return Found(tuple(hits), {}, token, versions=of)

    async def _next_page(
        self, tenant: str, question: Question, rows: Sequence[CollectionRow], watch: Stopwatch
    ) -> Found:
        asked = question.paging.binding
        order = self.pages.rest(question.paging.token, asked)
        with watch.stage("fuse"):
            hits, taken, of = await self._hits(tenant, question, order, rows)
        token = self.pages.renewed(order[taken:], asked, question.paging.token)
        return Found(tuple(hits), watch.seconds, token, versions=of)

    async def _hits(
        self, tenant: str, question: Question, order: Sequence[Ranked], rows: Sequence[CollectionRow]
    ) -> tuple[list[Hit], int, dict[str, str]]:
        """Hits, how much of the order they took, and the versions of the collections that they are of."""
        most = question.paging.size or len(order)
        tests = selecting.document_tests(question)

        def read(session: Session) -> tuple[list[Hit], int, dict[str, str]]:
            of = versions(session, rows)
            found = passages.hits(session, tenant, order, tests, most, with_metadata=question.with_metadata)
            return (*found, of)

        return await self.database.read(read)


def _require_one_model(pinned: Sequence[CollectionRow]) -> None:
    """Raises EMBEDDING_MODELS_DIFFER for collections whose vectors cannot be compared."""
    first, *others = pinned
    for other in others:
        if other.embedding_digest != first.embedding_digest:
            raise Failure(
                Reason.EMBEDDING_MODELS_DIFFER,
                name=first.collection,
                other=other.collection,
                digest=first.embedding_digest,
            )


def _check(question: Question) -> None:
    for query in question.queries:
        if not query.strip():
            raise Failure(Reason.QUESTION_EMPTY, field="queries")
    if question.filter is not None:
        filters.check(question.filter)


def _told(question: Question, lists: Sequence[arms.Lists], found: Found) -> Found:
    """With how each hit came to its place, when that is asked for."""
    if not question.explain:
        return found
    places = ranking.places(question, lists, [hit.ranked.chunk for hit in found.hits])
    reranked = sorted((hit.ranked.rerank for hit in found.hits if hit.ranked.rerank is not None), reverse=True)
    hits = tuple(
        replace(hit, places=(*places[hit.ranked.chunk], *_reranked(hit.ranked, reranked))) for hit in found.hits
    )
    return replace(found, hits=hits, filters=selecting.described(question))


def _reranked(ranked: Ranked, scores: Sequence[float]) -> tuple[Place, ...]:
    if ranked.rerank is None:
        return ()
    return (Place("rerank", 0, scores.index(ranked.rerank) + 1, ranked.rerank, 0.0),)
