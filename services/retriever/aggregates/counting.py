"""Counting and listing what holds keywords and passes filters: from the index and the catalog, never from a sample.

Invariants: who may read and what passes is decided in the catalog; a passage counts when
the index holds it under the keyword; both are looked at while no change is half done, so
the numbers are those of one moment.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.retriever import catalog
from services.retriever.aggregates import grouping
from services.retriever.aggregates.mentions import first_mention
from services.retriever.aggregates.question import Counted, Counting, Match, Matching, Mention
from services.retriever.documents.readers import readable
from services.retriever.index.gates import Gates
from services.retriever.index.index import Index
from services.retriever.search import filters
from services.retriever.search.filtering import passing, require_fitting
from services.retriever.store import ChunkRow, DocumentRow
from services.retriever.text.tokens import Tokens

_BATCH = 500
# Chunks by the word that they hold.
Holders = Mapping[str, frozenset[int]]


@dataclass(frozen=True, slots=True)
class _Held:
    """A document that counts, and its passages that do: the chunks, or, without keywords, how many it has."""

    number: int
    version: str
    title: str
    chunks: tuple[int, ...]
    passages: int


@dataclass(frozen=True, slots=True)
class Aggregates:
    """The verb.  ``blocking`` runs a function in a thread."""

    database: Database
    index: Index
    gates: Gates
    blocking: Callable[..., Awaitable[Any]]
    tokens: Tokens

    async def count(self, tenant: str, asked: Counting) -> Counted:
        """Exact numbers, and a page of the documents that they are of.

        Raises FILTER_INVALID, FILTER_TYPE_MISMATCH, COLLECTION_NOT_FOUND and, with keywords where the index is a
        server, PEER_UNAVAILABLE.
        """
        if asked.filter is not None:
            filters.check(asked.filter)
        number = await self.database.read(lambda session: catalog.require(session, tenant, asked.collection).number)
        async with self.gates.search([number]):
            holders: Holders = await self.blocking(self._holders, number, asked.words)
            return await self.database.read(lambda session: self._counted(session, tenant, asked, holders))

    def _holders(self, number: int, words: Sequence[str]) -> Holders:
        return {word: self.index.holders(number, word) for word in words}

    def _counted(self, session: Session, tenant: str, asked: Counting, holders: Holders) -> Counted:
        collection = catalog.require(session, tenant, asked.collection)
        tests = _tests(session, collection.number, asked)
        found = _matching(session, tests, asked.match, holders) if asked.words else _all(session, tests)
        searched = int(session.scalar(select(func.count()).select_from(DocumentRow).where(*tests)) or 0)
        # By code points on every database.
        names = [name for name in sorted(found) if name > asked.after]
        listed = names[: asked.most]
        return Counted(
            documents=len(found),
            passages=sum(held.passages for held in found.values()),
            searched=searched,
            groups=grouping.groups(session, asked.group_by, {it.number: it.passages for it in found.values()}),
            listed=tuple(self._listed(session, {name: found[name] for name in listed}, asked.words)),
            more=len(names) > asked.most,
            version=collection.version,
        )

    def _listed(self, session: Session, page: Mapping[str, _Held], words: Sequence[str]) -> Iterator[Matching]:
        firsts = _first_chunks(session, [chunk for held in page.values() for chunk in held.chunks])
        for name, held in page.items():
            row = firsts.get(held.number)
            first = None if row is None else self._mention(row, words)
            yield Matching(name, held.version, held.title, held.passages, first)

    def _mention(self, row: ChunkRow, words: Sequence[str]) -> Mention:
        start, end = first_mention(self.tokens, row.text, words)
        return Mention(row.chunk, row.start + start, row.start + end, row.text[start:end], (row.start, row.end))


def _tests(session: Session, number: int, asked: Counting) -> list[ColumnElement[bool]]:
    """What a document must meet to be looked at, as conditions on DocumentRow.  Raises FILTER_TYPE_MISMATCH."""
    mine = DocumentRow.collection_number == number
    visible = readable(asked.viewer)
    tests = [mine, visible, DocumentRow.serving_version != ""]
    if asked.documents:
        tests.append(DocumentRow.document.in_(asked.documents))
    if asked.filter is not None:
        require_fitting(session, asked.filter, mine & visible)
        tests.append(passing(asked.filter))
    return tests


def _all(session: Session, tests: Sequence[ColumnElement[bool]]) -> dict[str, _Held]:
    query = select(
        DocumentRow.document, DocumentRow.number, DocumentRow.serving_version, DocumentRow.title, DocumentRow.chunks
    )
    return {
        document: _Held(number, version, title, (), chunks)
        for document, number, version, title, chunks in session.execute(query.where(*tests))
    }


def _matching(
    session: Session, tests: Sequence[ColumnElement[bool]], match: Match, holders: Holders
) -> dict[str, _Held]:
    each = list(holders.values())
    candidates = frozenset.intersection(*each) if match is Match.PASSAGE else frozenset[int]().union(*each)
    chunks: dict[int, list[int]] = defaultdict(list)
    described: dict[int, tuple[str, str, str]] = {}
    columns = ChunkRow.chunk, DocumentRow.number, DocumentRow.document, DocumentRow.serving_version, DocumentRow.title
    for some in _batches(sorted(candidates)):
        query = select(*columns).join(DocumentRow, DocumentRow.number == ChunkRow.document_number)
        for chunk, number, *names in session.execute(query.where(ChunkRow.chunk.in_(some), *tests)):
            chunks[number].append(chunk)
            described[number] = (names[0], names[1], names[2])
    return {
        described[number][0]: _Held(number, *described[number][1:], tuple(found), len(found))
        for number, found in chunks.items()
        if match is not Match.DOCUMENT or all(not held.isdisjoint(found) for held in each)
    }


def _first_chunks(session: Session, chunks: Sequence[int]) -> dict[int, ChunkRow]:
    """By document the chunk that stands first of these."""
    firsts: dict[int, tuple[int, int]] = {}
    for some in _batches(chunks):
        query = select(ChunkRow.document_number, ChunkRow.start, ChunkRow.chunk).where(ChunkRow.chunk.in_(some))
        for number, start, chunk in session.execute(query):
            firsts[number] = min(firsts.get(number, (start, chunk)), (start, chunk))
    wanted = [chunk for _, chunk in firsts.values()]
    rows: dict[int, ChunkRow] = {}
    for some in _batches(wanted):
        rows.update((row.document_number, row) for row in session.scalars(_rows(some)))
    return rows


def _rows(chunks: Sequence[int]) -> Any:
    return select(ChunkRow).where(ChunkRow.chunk.in_(chunks))


def _batches(values: Iterable[int]) -> Iterator[list[int]]:
    rest = iter(values)
    while some := list(islice(rest, _BATCH)):
        yield some
