"""Summaries of a collection, or of a part of it, and answers to a focus from all of it.

Without a focus the answer is chosen among what the upper nodes of the trees say, which are
kept.  With one, every passage is read for it (map) and what answers best goes up the trees
(reduce); nothing of that is kept.  Invariants: statements come only from trees that the
viewer may read; every citation is looked up in the catalog when the answer is given, for
that viewer, and its characters are the serving version's.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.chassis.errors import Failure, Reason
from services.retriever.documents.readers import Viewer, readable
from services.retriever.generation import Generator
from services.retriever.ingestion.embeddings import Embeddings
from services.retriever.search import filters
from services.retriever.search.passages import vectors
from services.retriever.store import ChunkRow, DocumentRow, by_number
from services.retriever.summaries.building import MOST_STATEMENTS, Builder, Grown, Moved, Order
from services.retriever.summaries.extracting import Focus, chosen
from services.retriever.summaries.groves import Forest, forest
from services.retriever.summaries.nodes import Maker
from services.retriever.summaries.question import Cited, Request, Summary, Told
from services.retriever.summaries.statements import Mode, Quote, Statement
from services.retriever.text.keywords import words

# Statements of an answer without a bound, and at most.
_STATEMENTS = 8
_MOST_STATEMENTS = 200
# A statement has seldom fewer tokens: so many statements fill a bound.
_SHORT_STATEMENT = 12
# Statements of a node where all is read for one question.
_OF_FOCUS = 8
_BATCH = 500


@dataclass(frozen=True, slots=True)
class Summaries:
    """The verb."""

    database: Database
    builder: Builder
    embeddings: Embeddings
    generator: Generator

    async def summarize(self, tenant: str, asked: Request) -> Summary:
        """What the collection says, or what it says to the focus.

        Raises COLLECTION_NOT_FOUND, FILTER_INVALID, FILTER_TYPE_MISMATCH, GENERATOR_NOT_SET where the generator is to
        word it, PEER_UNAVAILABLE where it, or for a focus or a bound the embedder, is away, and EMBEDDING_MODEL_CHANGED
        where the embedder has not the collection's model.
        """
        if asked.filter is not None:
            filters.check(asked.filter)
        if asked.mode is Mode.ABSTRACTIVE:
            self.generator.require()
        while True:
            try:
                return await self._summarize(tenant, asked)
            except Moved:
                # Documents went or changed while they were read: summarise what is there now.
                continue

    async def _summarize(self, tenant: str, asked: Request) -> Summary:
        trees = await self.database.read(lambda session: forest(session, tenant, asked))
        order = await self._order(tenant, asked, trees)
        grown = await self.builder.grown(trees, order)
        statements = await self._answer(asked, grown, order, tenant)
        cited = await self.database.read(lambda session: _told(session, tenant, asked.viewer, statements))
        told: list[Told] = await self.builder.blocking(self.builder.wording.grounding.told, cited)
        if asked.max_tokens:
            told = await self._fitting(told, asked.max_tokens, trees.embedding_digest)
        read = sum(len(tree.grove.leaves) for tree in grown)
        computed = sum(len(tree.missing) for tree in grown)
        return Summary(
            statements=tuple(told),
            chunks_read=read,
            chunks=sum(len(grove.leaves) for grove in trees.groves if grove.wanted),
            nodes_computed=computed,
            nodes_reused=sum(tree.nodes for tree in grown) - computed,
            embedding_digest=trees.embedding_digest,
            generator_digest=order.maker.writer or await self._writer(asked.mode),
            version=trees.version,
        )

    async def _writer(self, mode: Mode) -> str:
        return (await self.generator.writer()).digest if mode is Mode.ABSTRACTIVE else ""

    async def _order(self, tenant: str, asked: Request, trees: Forest) -> Order:
        focus = asked.focus.strip()
        if focus and trees.embedding_digest:
            # What is read for one question is quoted; the generator words what is left of it.
            maker = Maker(tenant, trees.collection_number, Mode.EXTRACTIVE, trees.embedding_digest)
            return Order(
                maker, _OF_FOCUS, await self._focus(asked.collection, focus, trees.embedding_digest), keeps=False
            )
        writer = await self._writer(asked.mode)
        maker = Maker(tenant, trees.collection_number, asked.mode, trees.embedding_digest, writer)
        return Order(maker, MOST_STATEMENTS[asked.mode], keeps=asked.is_of_all)

    async def _focus(self, collection: str, focus: str, pinned: str) -> Focus:
        answer = await self.embeddings.of(pinned).queries([focus])
        if answer.digest != pinned:
            raise Failure(Reason.EMBEDDING_MODEL_CHANGED, name=collection, pinned=pinned, serving=answer.digest)
        vector = np.frombuffer(answer.packed[0], dtype="<f2").astype(np.float32)
        return Focus(vector, frozenset(words(focus)))

    async def _answer(self, asked: Request, grown: Sequence[Grown], order: Order, tenant: str) -> tuple[Statement, ...]:
        many = _many(asked)
        candidates = await self._candidates(grown, order, _candidates_of(asked))
        chunks = list(dict.fromkeys(it.quotes[0].chunk for it in candidates))
        near = await self.database.read(lambda session: vectors(session, tenant, chunks))
        wanted = _candidates_of(asked) if order.focus is not None else many
        best: tuple[Statement, ...] = await self.builder.blocking(chosen, candidates, near, wanted, order.focus)
        return best if wanted == many else await self.builder.wording.worded(best, many, asked.focus.strip())

    async def _candidates(self, grown: Sequence[Grown], order: Order, wanted: int) -> list[Statement]:
        """What the nodes say as high in the trees as there is enough of it."""
        found: list[Statement] = []
        for depth in range(1, max((len(tree.levels) for tree in grown), default=0) + 1):
            said = [await self.builder.read(tree, tree.levels[-min(depth, len(tree.levels))], order) for tree in grown]
            found = [statement for tree in said for node in tree for statement in node]
            if len(found) >= wanted:
                return found
        if order.maker.mode is Mode.ABSTRACTIVE:
            return found
        # The bound is larger than all that the nodes say: the leaves are the lowest level.
        quoted = [statement for tree in grown for statement in await self.builder.quoted(tree, order)]
        return quoted or found

    async def _fitting(self, told: Sequence[Told], most: int, embedding_digest: str) -> list[Told]:
        """The first statements that have no more tokens together, at least one."""
        if not told:
            return []
        counts = await self.embeddings.of(embedding_digest).count([it.text for it in told])
        fitting, left = [told[0]], most - counts[0]
        for statement, count in zip(told[1:], counts[1:], strict=True):
            if count <= left:
                fitting.append(statement)
                left -= count
        return fitting


def _many(asked: Request) -> int:
    """How many statements are wanted."""
    if not asked.max_tokens:
        return _STATEMENTS
    return min(_MOST_STATEMENTS, max(1, asked.max_tokens // _SHORT_STATEMENT))


def _candidates_of(asked: Request) -> int:
    """How many statements they are made from: of two the generator makes one."""
    return _many(asked) * (2 if asked.mode is Mode.ABSTRACTIVE and asked.focus.strip() else 1)


def _told(session: Session, tenant: str, viewer: Viewer, statements: Sequence[Statement]) -> list[Told]:
    """The statements with their citations as they stand now.  Raises Moved where one is gone, or hidden."""
    rows = _rows(session, tenant, viewer, dict.fromkeys(q.chunk for it in statements for q in it.quotes))
    try:
        return [
            Told(it.text, tuple(_cited(quote, *rows[quote.chunk]) for quote in it.quotes), it.generated)
            for it in statements
        ]
    except KeyError as gone:
        raise Moved from gone


def _cited(quote: Quote, row: ChunkRow, document: str, title: str) -> Cited:
    start, end = row.start + quote.start, row.start + quote.end
    return Cited(document, row.version, row.chunk, start, end, row.text[quote.start : quote.end], title)


def _rows(session: Session, tenant: str, viewer: Viewer, chunks: Iterable[int]) -> dict[int, tuple[ChunkRow, str, str]]:
    """By chunk its row, its document and that one's title."""
    wanted = list(chunks)
    found: dict[int, tuple[ChunkRow, str, str]] = {}
    for first in range(0, len(wanted), _BATCH):
        query = (
            select(ChunkRow, DocumentRow.document, DocumentRow.title)
            .join(DocumentRow, DocumentRow.number == ChunkRow.document_number)
            .where(*by_number(tenant, wanted[first : first + _BATCH]), readable(viewer))
        )
        found.update((row.chunk, (row, document, title)) for row, document, title in session.execute(query))
    return found
