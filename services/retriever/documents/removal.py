"""The way out: from the catalog and the index, as one in the eyes of a search.

Invariant: once begun, a deletion runs to its end, whether or not its caller still waits:
an index that kept what the catalog lost would score its collection differently.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any

from services.retriever.catalog import Collections
from services.retriever.changes import Changes
from services.retriever.documents.documents import Documents
from services.retriever.documents.readers import SERVICE, Viewer
from services.retriever.index.gates import Gates
from services.retriever.index.index import Index


def _nobody(_: Iterable[int]) -> None:
    """Counts no use."""


@dataclass(frozen=True, slots=True)
class Removal:
    """The verbs that take away.  ``blocking`` runs a function in a thread."""

    collections: Collections
    documents: Documents
    index: Index
    gates: Gates
    changes: Changes
    blocking: Callable[..., Awaitable[Any]]
    # Told the numbers of collections that lost a document.
    used: Callable[[Iterable[int]], None] = _nobody
    _under_way: set[asyncio.Task[int]] = field(default_factory=set)

    async def document(self, tenant: str, collection: str, document: str, viewer: Viewer = SERVICE) -> int:
        """Delete a document with all its versions; the chunks that left the index.

        Raises COLLECTION_NOT_FOUND and DOCUMENT_NOT_FOUND.
        """
        number = await self.collections.number(tenant, collection)
        return await self._to_the_end(self._document(number, tenant, collection, document, viewer))

    async def _document(self, number: int, tenant: str, collection: str, document: str, viewer: Viewer) -> int:
        async with self.gates.change(number):
            removed = await self.documents.delete(tenant, collection, document, viewer)
            await self.blocking(self.index.replace, removed.collection_number, (), removed.chunks)
        self.used((number,))
        self.changes.tell(number)
        return len(removed.chunks)

    async def collection(self, tenant: str, collection: str, etag: str = "") -> int:
        """Delete a collection with all that is in it; the documents that it had.

        Raises COLLECTION_NOT_FOUND, and ETAG_MISMATCH where it is not as ``etag`` says; an empty one says nothing.
        """
        number = await self.collections.number(tenant, collection)
        return await self._to_the_end(self._collection(number, tenant, etag))

    async def _collection(self, number: int, tenant: str, etag: str) -> int:
        async with self.gates.change(number):
            documents = await self.collections.delete(tenant, number, etag)
            await self.blocking(self.index.drop, number)
        self.changes.tell(number)
        return documents

    async def _to_the_end(self, work: Coroutine[Any, Any, int]) -> int:
        task = asyncio.ensure_future(work)
        # The loop itself holds tasks weakly.
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)

    async def finish(self) -> None:
        """Wait for what is under way: before the index and the database close."""
        await asyncio.gather(*self._under_way, return_exceptions=True)
