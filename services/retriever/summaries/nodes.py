"""What nodes say, kept under keys that follow from all that it was computed from.

Invariants: a node is found by who names its very leaves, and nobody else, so a row tells
nobody what they may not read; a row goes in the transaction that takes away one of its documents,
or a passage that it quotes, and none is written that has such a one.
"""

import hashlib
import json
from collections.abc import Collection as AnyOf
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from services.retriever.store import ChunkRow, DocumentRow, in_turn
from services.retriever.store_generated import SummaryInputRow, SummaryRow
from services.retriever.summaries.statements import Mode, Statement, decoded, encoded

T = TypeVar("T")
_BATCH = 500
# Bump when statements are chosen or worded in another way.
_METHOD = 1


@dataclass(frozen=True, slots=True)
class Maker:
    """Who computes nodes: for which collection, how, and by which models (``writer`` empty without a generator)."""

    tenant: str
    collection_number: int
    mode: Mode
    embedding_digest: str
    writer: str = ""

    def key(self, digest: bytes) -> bytes:
        """The key of the node with this digest."""
        named = json.dumps(
            [_METHOD, self.tenant, self.collection_number, self.mode, self.embedding_digest, self.writer]
        )
        return hashlib.sha256(hashlib.sha256(named.encode()).digest() + digest).digest()


@dataclass(frozen=True, slots=True)
class Made:
    """A node that was computed, and the documents below it."""

    key: bytes
    level: int
    statements: tuple[Statement, ...]
    documents: frozenset[int]


def present(session: Session, tenant: str, keys: Sequence[bytes]) -> set[bytes]:
    """Which of the nodes are kept."""
    found: set[bytes] = set()
    for some in _batches(keys):
        found.update(
            session.scalars(select(SummaryRow.key).where(SummaryRow.tenant == tenant, SummaryRow.key.in_(some)))
        )
    return found


def read(session: Session, tenant: str, keys: Sequence[bytes]) -> dict[bytes, tuple[Statement, ...]]:
    """What the nodes say, those that are kept."""
    found: dict[bytes, tuple[Statement, ...]] = {}
    for some in _batches(keys):
        query = select(SummaryRow.key, SummaryRow.statements_json)
        rows = session.execute(query.where(SummaryRow.tenant == tenant, SummaryRow.key.in_(some)))
        found.update((key, decoded(text)) for key, text in rows)
    return found


def keep(session: Session, maker: Maker, made: Sequence[Made]) -> bool:
    """Keep nodes; False, and nothing is kept, where a document or a passage of theirs is gone."""
    in_turn(session, maker.tenant)
    documents = frozenset[int]().union(*(node.documents for node in made))
    if _existing(session, maker.collection_number, documents) < len(documents):
        return False
    quoted = {quote.chunk for node in made for statement in node.statements for quote in statement.quotes}
    if _served(session, quoted) < len(quoted):
        return False
    known = present(session, maker.tenant, [node.key for node in made])
    fresh = {node.key: node for node in made if node.key not in known}
    rows = [
        {
            "key": node.key,
            "tenant": maker.tenant,
            "collection_number": maker.collection_number,
            "mode": maker.mode,
            "level": node.level,
            "statements_json": encoded(node.statements),
        }
        for node in fresh.values()
    ]
    inputs = [{"key": node.key, "document_number": it} for node in fresh.values() for it in sorted(node.documents)]
    if rows:
        session.execute(insert(SummaryRow), rows)
        session.execute(insert(SummaryInputRow), inputs)
    return True


def prune(session: Session, maker: Maker, current: AnyOf[bytes]) -> None:
    """Forget the collection's nodes of this mode that no tree has now: of earlier texts, readers and models."""
    in_turn(session, maker.tenant)
    mine = SummaryRow.collection_number == maker.collection_number, SummaryRow.mode == maker.mode
    for some in _batches(set(session.scalars(select(SummaryRow.key).where(*mine))).difference(current)):
        session.execute(delete(SummaryRow).where(SummaryRow.key.in_(some)))


def forget(session: Session, document_number: int) -> None:
    """Forget every node that the document is below."""
    above = select(SummaryInputRow.key).where(SummaryInputRow.document_number == document_number)
    session.execute(delete(SummaryRow).where(SummaryRow.key.in_(above)))


def forget_passages(session: Session, document_number: int, chunks: AnyOf[int]) -> None:
    """Forget every node that quotes one of these chunks of the document."""
    if not chunks:
        return
    query = select(SummaryRow.key, SummaryRow.statements_json).join(
        SummaryInputRow, SummaryInputRow.key == SummaryRow.key
    )
    above = session.execute(query.where(SummaryInputRow.document_number == document_number))
    quoting = [key for key, text in above if any(quote.chunk in chunks for it in decoded(text) for quote in it.quotes)]
    for some in _batches(quoting):
        session.execute(delete(SummaryRow).where(SummaryRow.key.in_(some)))


def _served(session: Session, chunks: AnyOf[int]) -> int:
    query = select(func.count()).select_from(ChunkRow)
    return sum(int(session.scalar(query.where(ChunkRow.chunk.in_(some))) or 0) for some in _batches(chunks))


def _existing(session: Session, collection_number: int, documents: AnyOf[int]) -> int:
    query = select(func.count()).select_from(DocumentRow).where(DocumentRow.collection_number == collection_number)
    return sum(int(session.scalar(query.where(DocumentRow.number.in_(some))) or 0) for some in _batches(documents))


def _batches(values: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(values)
    while some := list(islice(rest, _BATCH)):
        yield some
