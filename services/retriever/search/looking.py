"""Takes the lists of a search: a first look, and a second that the best passages of the first one widen.

Invariants: what is looked for is allowed before it is ranked; vectors of two models are never compared.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.retriever.index.index import Index, Vector
from services.retriever.questions.sets import QuestionSets, WithQuestions
from services.retriever.search import arms, feedback, passages, ranking, selecting
from services.retriever.search.expansion import Extra
from services.retriever.search.feedback import Spoken
from services.retriever.search.question import Expansion, ExpansionKind, Fusion, Mode, Question
from services.retriever.search.settings import Plan
from services.retriever.search.stopwatch import Stopwatch
from services.retriever.store import CollectionRow
from services.retriever.text.tokens import Tokens

# Looked further by so much where passages may fall together, up to this.
_FURTHER = 4
_DEEPEST = 1000


@dataclass(frozen=True, slots=True)
class QuestionVectors:
    """A vector a query, [dimensions] each, and the model that they are of."""

    digest: str
    each: list[Vector]


@dataclass(frozen=True, slots=True)
class Sought:
    """What is looked for: a question with its vectors, None where only keywords are, and what it was expanded to."""

    plan: Plan
    vectors: QuestionVectors | None
    extras: tuple[Extra, ...] = ()
    # Of collections whose question vectors are looked at, how many a chunk.
    questions: Mapping[int, int] = field(default_factory=dict)

    @property
    def question(self) -> Question:
        """The question as it is searched."""
        return self.plan.question

    @property
    def queries(self) -> list[str]:
        """What keywords are taken from, the queries first."""
        return [*self.question.queries, *(extra.words for extra in self.extras)]

    @property
    def each(self) -> list[Vector | None] | None:
        """A vector for each of these."""
        return None if self.vectors is None else [*self.vectors.each, *(extra.vector for extra in self.extras)]

    @property
    def weights(self) -> list[float]:
        """What each counts."""
        return [*(1.0 for _ in self.question.queries), *(extra.weight for extra in self.extras)]


class CollectionMoved(Exception):
    """A collection changed its embedding model, or how it is searched, between question and answer; or it is gone."""


@dataclass(frozen=True, slots=True)
class Looking:
    """Over an index and the catalog.  ``depth`` is the least length of each arm's list."""

    database: Database
    index: Index
    blocking: Callable[..., Awaitable[Any]]
    depth: int
    tokens: Tokens = field(default_factory=Tokens)
    # None where no collection has question vectors.
    questions: QuestionSets | None = None

    async def lists(self, tenant: str, numbers: list[int], sought: Sought, watch: Stopwatch) -> list[arms.Lists]:
        """The lists of each query and of what it was expanded to; inside the gate.  Raises CollectionMoved."""
        question, vectors = sought.question, sought.vectors
        where = await self._where(numbers, question)
        index = await self._looked(sought)
        lists = await self._first(numbers, sought, where, index, watch)
        if question.mode is Mode.HYBRID and question.fusion is Fusion.SCORE:
            await self._know_documents(tenant, lists)
            if question.feedback and vectors is not None:
                with watch.stage("feedback"):
                    await self._look_again(tenant, question, vectors, where, index, lists[: len(question.queries)])
                await self._know_documents(tenant, lists)
        return lists

    async def first(self, numbers: list[int], sought: Sought, watch: Stopwatch) -> list[arms.Lists]:
        """The same without a second look."""
        where = await self._where(numbers, sought.question)
        return await self._first(numbers, sought, where, await self._looked(sought), watch)

    async def _looked(self, sought: Sought) -> arms.Looked:
        """The index, and beside it the question vectors of collections that have some."""
        if self.questions is None or not sought.questions:
            return self.index
        load = self.questions.of
        sets = {number: await self.blocking(load, number, each) for number, each in sought.questions.items()}
        return WithQuestions(self.index, sets)

    def questioned(self, sought: Sought) -> list[Expansion]:
        """Whether question vectors had a part, where they were to."""
        if not sought.plan.question_vectors or self.questions is None:
            return []
        kind = ExpansionKind.QUESTION_VECTORS
        if not sought.questions:
            return [Expansion(kind, False, "only keywords are looked for, or nothing is there yet", ())]
        applied = any(self.questions.known(number) for number in sought.questions)
        return [Expansion(kind, applied, "" if applied else "no question is written yet", ())]

    async def _first(
        self, numbers: list[int], sought: Sought, where: arms.Sought, index: arms.Looked, watch: Stopwatch
    ) -> list[arms.Lists]:
        await self.database.read(lambda session: _require_model(session, numbers, sought.vectors))
        lists: list[arms.Lists] = await self.blocking(arms.look, index, sought.queries, sought.each, where, watch)
        return [replace(it, weight=weight) for it, weight in zip(lists, sought.weights, strict=True)]

    async def _where(self, numbers: list[int], question: Question) -> arms.Sought:
        allowed = await self.database.read(lambda session: selecting.allowed(session, numbers, question))
        depth = max(self.depth, question.top_k)
        if question.shape.looks_further:
            depth = max(depth, min(_FURTHER * depth, _DEEPEST))
        return arms.Sought(allowed, depth, keywords=question.mode is not Mode.DENSE)

    async def _know_documents(self, tenant: str, lists: Sequence[arms.Lists]) -> None:
        """Which document each chunk of the lists is of."""
        found = sorted({chunk for it in lists for chunk in it.chunks() if chunk not in it.documents})
        of = await self.database.read(lambda session: passages.document_numbers(session, tenant, found))
        for it in lists:
            it.documents.update((chunk, of[chunk]) for chunk in it.chunks() if chunk in of)

    async def _look_again(
        self,
        tenant: str,
        question: Question,
        vectors: QuestionVectors,
        where: arms.Sought,
        index: arms.Looked,
        lists: Sequence[arms.Lists],
    ) -> None:
        """Fill ``again`` of each query's lists."""
        orders = [ranking.order(question, [it]) for it in lists]
        firsts = [feedback.best_passages(order) for order in orders]
        chunks = sorted({hit.chunk for first in firsts for hit in first})
        held, near = await self.database.read(
            lambda session: (passages.materials(session, tenant, chunks), passages.vectors(session, tenant, chunks))
        )
        for it, query, vector, order, first in zip(lists, question.queries, vectors.each, orders, firsts, strict=True):
            best = feedback.speaking(
                [
                    Spoken(hit.score, held[hit.chunk].indexed_text, near[hit.chunk])
                    for hit in first
                    if hit.chunk in held and hit.chunk in near
                ]
            )
            if best:
                words = await self.blocking(self._words_of, query, best, where)
                wanted = arms.Wanted(words, feedback.widened_vector(vector, best), feedback.kept(order))
                await self.blocking(arms.look_again, index, it, wanted, where)

    def _words_of(self, query: str, best: Sequence[Spoken], where: arms.Sought) -> tuple[str, ...]:
        """What a second look takes of the passages, as far as it can be looked for quickly.  Blocks."""
        words = feedback.telling_words(query, best, self.tokens)
        counted = [self.index.frequencies(number, words).by_word for number in where.allowed]
        return feedback.affordable(words, {word: sum(each[word] for each in counted) for word in words})


def asked_of(rows: Sequence[CollectionRow]) -> dict[int, int]:
    """Of collections that have question vectors, how many a chunk."""
    return {row.number: row.questions_per_chunk for row in rows if row.questions_per_chunk}


def versions(session: Session, rows: Sequence[CollectionRow]) -> dict[str, str]:
    """By collection the version that it has now, in the order of ``rows``; in one read with what is found.

    Raises CollectionMoved where one is searched in another way than when its row was read.
    """
    columns = CollectionRow.number, CollectionRow.version, CollectionRow.search_settings_json
    query = select(*columns, CollectionRow.answerable_threshold).where(
        CollectionRow.number.in_([row.number for row in rows])
    )
    now = {number: (version, how) for number, version, *how in session.execute(query)}
    if any(now.get(row.number, ("", []))[1] != [row.search_settings_json, row.answerable_threshold] for row in rows):
        raise CollectionMoved
    return {row.collection: now[row.number][0] for row in rows}


def _require_model(session: Session, numbers: Sequence[int], vectors: QuestionVectors | None) -> None:
    """Inside the gate, where nothing moves: the vectors are of the model that the collections have now."""
    if vectors is None:
        return
    query = select(CollectionRow.embedding_digest).where(CollectionRow.number.in_(numbers))
    if set(session.scalars(query)) - {"", vectors.digest}:
        raise CollectionMoved
