"""The way in: bytes to a durable document that ingestion knows of.

Invariant: nothing is acknowledged before it is in the catalog's queue.  What is text is read
here, and refused here if it cannot be; other formats are converted by ingestion, where they
can only fail themselves.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.chassis.idempotency import IdempotencyKey
from services.chassis.streams import Chunk, partial_path, receive
from services.retriever.catalog import Collections
from services.retriever.changes import Changes
from services.retriever.documents.attributes import Attributes
from services.retriever.documents.documents import Documents, Stored
from services.retriever.documents.media import Source
from services.retriever.documents.readers import Viewer
from services.retriever.documents.storing import Put
from services.retriever.text import texts


@dataclass(frozen=True, slots=True)
class Draft:
    """What a document is to be; an empty title or media type is found out."""

    collection: str
    document: str
    title: str
    media_type: str
    metadata: Mapping[str, str]
    attributes: Attributes
    readers: tuple[str, ...]
    # Who stores it.
    viewer: Viewer
    # What it is called where it comes from; empty is its id.
    filename: str = ""

    @property
    def name(self) -> str:
        """By which its ending and messages go."""
        return self.filename or self.document


@dataclass(frozen=True, slots=True)
class Announced:
    """What an upload says is coming."""

    size_bytes: int
    sha256: str
    offset_bytes: int


def _nobody(_: Iterable[int]) -> None:
    """Counts no use."""


@dataclass(frozen=True, slots=True)
class Intake:
    """The verbs that store documents.  ``blocking`` runs a function in a thread; ``wake`` stirs ingestion."""

    collections: Collections
    documents: Documents
    changes: Changes
    blocking: Callable[..., Awaitable[Any]]
    wake: Callable[[], None]
    new_id: Callable[[], str]
    uploads: Path
    limit_bytes: int
    # Told the numbers of collections that are stored in.
    used: Callable[[Iterable[int]], None] = _nobody

    async def put(self, tenant: str, draft: Draft, content: bytes, key: IdempotencyKey) -> Stored:
        """Store a document or its next version.

        Raises COLLECTION_NOT_FOUND, DOCUMENT_TOO_LARGE, DOCUMENT_NOT_TEXT, DOCUMENT_EMPTY,
        DOCUMENT_ID_TAKEN, FIELD_INVALID and REQUEST_ID_REUSED.
        """
        source = Source(draft.name, draft.media_type, content)
        # Before the collection is looked for: who makes one on COLLECTION_NOT_FOUND makes none for refused bytes.
        text = await self.blocking(texts.read, source, self.limit_bytes)
        number = await self.collections.number(tenant, draft.collection)
        named = Put(
            draft.collection,
            draft.document,
            draft.title,
            draft.metadata,
            draft.attributes,
            draft.readers,
            draft.viewer,
        )
        stored = await self.documents.put(tenant, named, text, key)
        self.used((number,))
        self.wake()
        self.changes.tell(number)
        return stored

    async def upload(
        self, tenant: str, draft: Draft, announced: Announced, chunks: AsyncIterable[Chunk], key: IdempotencyKey
    ) -> Stored:
        """:meth:`put` for bytes that come in chunks.  Raises also what ``chassis.streams.receive`` raises.

        An upload that breaks off leaves nothing: a document is small enough to be sent again.
        """
        texts.require_size(draft.name, announced.size_bytes, self.limit_bytes)
        await self.collections.number(tenant, draft.collection)
        target = self.uploads / self.new_id()
        try:
            await receive(chunks, target, announced.size_bytes, announced.sha256, announced.offset_bytes)
            content = await asyncio.to_thread(target.read_bytes)
        finally:
            for path in (target, partial_path(target)):
                path.unlink(missing_ok=True)
        return await self.put(tenant, draft, content, key)


def with_content(key: IdempotencyKey, sha256: str) -> IdempotencyKey:
    """The key of a request whose bytes are not in the message that names it."""
    fingerprint = hashlib.sha256(key.fingerprint + sha256.encode()).digest()
    return IdempotencyKey(key.tenant, key.method, key.request_id, fingerprint)
