"""What the catalog holds of chunks that were found.

Invariant: a chunk is shown only as long as it is served and its document passes the
tests of the question; the characters shown are the version's.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from services.retriever.documents.attributes import decoded, merged
from services.retriever.index.index import Vector
from services.retriever.search.question import Hit, Passage, Ranked
from services.retriever.store import ChunkRow, CollectionRow, DocumentRow, VectorRow, VersionRow, by_number

_BATCH = 500


@dataclass(frozen=True, slots=True)
class Material:
    """What later stages compare of a chunk."""

    document_number: int
    version: str
    text: str
    indexed_text: str


def materials(session: Session, tenant: str, chunks: Sequence[int]) -> dict[int, Material]:
    """By chunk its text and document, for those that are served."""
    found = {}
    for first in range(0, len(chunks), _BATCH):
        columns = ChunkRow.chunk, ChunkRow.document_number, ChunkRow.version, ChunkRow.text, ChunkRow.context
        query = select(*columns).where(*by_number(tenant, chunks[first : first + _BATCH]))
        for chunk, number, version, text, context in session.execute(query):
            found[chunk] = Material(number, version, text, f"{context}\n{text}" if context else text)
    return found


def document_numbers(session: Session, tenant: str, chunks: Sequence[int]) -> dict[int, int]:
    """By chunk its document's number, for those that are served."""
    found: dict[int, int] = {}
    for first in range(0, len(chunks), _BATCH):
        columns = ChunkRow.chunk, ChunkRow.document_number
        query = select(*columns).where(*by_number(tenant, chunks[first : first + _BATCH]))
        found.update((chunk, number) for chunk, number in session.execute(query))
    return found


def documents(session: Session, tenant: str, chunks: Sequence[int]) -> dict[int, str]:
    """By chunk the id of its document, for those that are served."""
    found: dict[int, str] = {}
    for first in range(0, len(chunks), _BATCH):
        query = (
            select(ChunkRow.chunk, DocumentRow.document)
            .join(DocumentRow, DocumentRow.number == ChunkRow.document_number)
            .where(*by_number(tenant, chunks[first : first + _BATCH]))
        )
        found.update((chunk, document) for chunk, document in session.execute(query))
    return found


def vectors(session: Session, tenant: str, chunks: Sequence[int]) -> dict[int, Vector]:
    """By chunk its vector, [dimensions] each."""
    found = {}
    for first in range(0, len(chunks), _BATCH):
        query = (
            select(ChunkRow.chunk, VectorRow.vector)
            .join(CollectionRow, CollectionRow.number == ChunkRow.collection_number)
            .join(
                VectorRow,
                (VectorRow.tenant == ChunkRow.tenant)
                & (VectorRow.model_digest == CollectionRow.embedding_digest)
                & (VectorRow.text_digest == ChunkRow.text_digest),
            )
            .where(*by_number(tenant, chunks[first : first + _BATCH]))
        )
        for chunk, packed in session.execute(query):
            found[chunk] = np.frombuffer(packed, dtype="<f2").astype(np.float32)
    return found


@dataclass(frozen=True, slots=True)
class _Shown:
    passage: Passage
    text: str
    title: str
    heading_path: tuple[str, ...]
    document_number: int
    pages: tuple[int, int]
    # Plain and typed, as they are stored.
    metadata_json: str
    attributes_json: str


def hits(
    session: Session,
    tenant: str,
    order: Sequence[Ranked],
    tests: Sequence[ColumnElement[bool]],
    most: int,
    *,
    with_metadata: bool = False,
) -> tuple[list[Hit], int]:
    """The first ``most`` of the order that are served and pass, and how much of the order that took."""
    found: list[Hit] = []
    taken = 0
    while taken < len(order) and len(found) < most:
        some = order[taken : taken + most - len(found)]
        named = [chunk for it in some for chunk in (it.chunk, *it.duplicates)]
        rows = _rows(session, tenant, named, tests)
        found += [_hit(session, it, rows, with_metadata) for it in some if it.chunk in rows]
        taken += len(some)
    return found, taken


def _hit(session: Session, ranked: Ranked, rows: dict[int, _Shown], with_metadata: bool) -> Hit:
    shown = rows[ranked.chunk]
    passage, text, pages = shown.passage, shown.text, shown.pages
    if ranked.window is not None and ranked.window[0] != passage.version:
        # Edited between two pages: the chunk is the same, what stands around it may not be.
        ranked = replace(ranked, window=None, merged=())
    if ranked.window is not None:
        _, start, end = ranked.window
        held = VersionRow.document_number == shown.document_number, VersionRow.version == passage.version
        text = session.scalar(select(func.substr(VersionRow.text, start + 1, end - start)).where(*held)) or ""
        passage = Passage(passage.collection, passage.document, passage.version, passage.chunk, start, end)
        pages = _pages(session, shown.document_number, start, end)
    duplicates = tuple(rows[chunk].passage for chunk in ranked.duplicates if chunk in rows)
    metadata = merged(json.loads(shown.metadata_json), decoded(shown.attributes_json)) if with_metadata else {}
    return Hit(passage, text, shown.title, shown.heading_path, ranked, duplicates, pages=pages, metadata=metadata)


def _pages(session: Session, document_number: int, start: int, end: int) -> tuple[int, int]:
    """The first and the last page of a document's chunks in [start, end)."""
    inside = ChunkRow.document_number == document_number, ChunkRow.start >= start, ChunkRow.end <= end
    found = session.execute(select(func.min(ChunkRow.first_page), func.max(ChunkRow.last_page)).where(*inside)).one()
    return found[0] or 0, found[1] or 0


def _rows(
    session: Session, tenant: str, chunks: Sequence[int], tests: Sequence[ColumnElement[bool]]
) -> dict[int, _Shown]:
    found = {}
    for first in range(0, len(chunks), _BATCH):
        query = (
            select(ChunkRow, DocumentRow, CollectionRow.collection)
            .join(DocumentRow, DocumentRow.number == ChunkRow.document_number)
            .join(CollectionRow, CollectionRow.number == ChunkRow.collection_number)
            .where(*by_number(tenant, chunks[first : first + _BATCH]), *tests)
        )
        for row, document, collection in session.execute(query):
            passage = Passage(collection, document.document, row.version, row.chunk, row.start, row.end)
            path = tuple(json.loads(row.heading_path_json))
            pages = row.first_page, row.last_page
            found[row.chunk] = _Shown(
                passage,
                row.text,
                document.title,
                path,
                row.document_number,
                pages,
                document.metadata_json,
                document.attributes_json,
            )
    return found
