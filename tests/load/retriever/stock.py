"""Very many passages in a catalog and an index, without the hours that ingesting them takes.

Invariant: rows are what publishing writes, as far as searches, additions and deletions read them.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from services.chassis.idempotency import IdempotencyKey
from services.retriever.collection import Draft
from services.retriever.documents.states import State
from services.retriever.index.index import Entry
from services.retriever.store import ChunkRow, CollectionRow, DocumentRow, VectorRow, VersionRow
from tests.load.retriever.drawn import DrawnEmbeddings, DrawnTexts
from tests.load.retriever.library import TENANT, Library

PASSAGES = 20
_AT_ONCE = 4000


@dataclass
class Stock:
    """A collection of drawn passages that grows."""

    library: Library
    texts: DrawnTexts
    embeddings: DrawnEmbeddings
    name: str = "drawn"
    passages: list[str] = field(default_factory=list)
    _number: int = 0

    async def grow(self, chunks: int) -> None:
        """Fill up to so many chunks."""
        if not self._number and not self.passages:
            await self.library.collections.create(TENANT, Draft(self.name), IdempotencyKey(TENANT, "bench", "", b""))
        if not self._number:
            self._number = await self.library.collections.number(TENANT, self.name)
        for wanted in range(len(self.passages), chunks, _AT_ONCE):
            some = list(self.texts.passages(min(_AT_ONCE, chunks - wanted)))
            await self._store(some)
            self.passages += some

    async def _store(self, passages: Sequence[str]) -> None:
        digest = (await self.embeddings.facts()).digest
        vectors = self.embeddings.vectors(passages)
        packed = {text: row.tobytes() for text, row in zip(passages, vectors, strict=True)}
        entries: list[Entry] = []

        def write(session: Session) -> None:
            session.get_one(CollectionRow, self._number).embedding_digest = digest
            first = (session.scalar(select(func.max(DocumentRow.number))) or 0) + 1
            groups = [passages[at : at + PASSAGES] for at in range(0, len(passages), PASSAGES)]
            documents = range(first, first + len(groups))
            session.execute(insert(DocumentRow), [self._document(*it) for it in zip(documents, groups, strict=True)])
            session.execute(insert(VersionRow), [_version(*it) for it in zip(documents, groups, strict=True)])
            chunks = [row for it in zip(documents, groups, strict=True) for row in self._chunks(*it)]
            session.execute(insert(ChunkRow), chunks)
            session.execute(
                insert(VectorRow).prefix_with("OR IGNORE"),
                [
                    {"tenant": TENANT, "model_digest": digest, "text_digest": _digest(text), "vector": packed[text]}
                    for text in packed
                ],
            )
            entries.extend(Entry(row["chunk"], row["text"], packed[row["text"]]) for row in chunks)

        await self.library.searching.database.write(write)
        await self.library.searching.looking.blocking(
            self.library.searching.looking.index.replace, self._number, entries, ()
        )

    def _document(self, number: int, texts: Sequence[str]) -> dict[str, Any]:
        version = _text_version(texts)
        return {
            "number": number,
            "tenant": TENANT,
            "collection_number": self._number,
            "document": f"stock-{number}.md",
            "media_type": "text/markdown",
            "newest_version": version,
            "serving_version": version,
            "state": State.READY,
            "chunks": len(texts),
            "queued_at": 0.0,
            "updated_at": 0.0,
        }

    def _chunks(self, document: int, texts: Sequence[str]) -> list[dict[str, Any]]:
        rows, at = [], 0
        for place, text in enumerate(texts):
            rows.append(
                {
                    "chunk": int.from_bytes(_digest(f"{document} {place} {text}")[:8], "big") >> 1,
                    "tenant": TENANT,
                    "collection_number": self._number,
                    "document_number": document,
                    "version": _text_version(texts),
                    "start": at,
                    "end": at + len(text),
                    "text": text,
                    "context": "",
                    "heading_path_json": "[]",
                    "text_digest": _digest(text),
                }
            )
            at += len(text) + 1
        return rows


def _version(document: int, texts: Sequence[str]) -> dict[str, Any]:
    text = "\n".join(texts)
    return {
        "document_number": document,
        "version": _text_version(texts),
        "tenant": TENANT,
        "sequence": 1,
        "text": text,
        "characters": len(text),
        "source_sha256": "",
        "state": State.READY,
        "created_at": 0.0,
    }


def _text_version(texts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
