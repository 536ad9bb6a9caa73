"""The services that vector stores stand on, as they are used here.  Every method raises Failure; who is away names itself."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

from gateway.vector_stores.nouns import (
    Attributes,
    Batch,
    Collection,
    FileDraft,
    FileFacts,
    Found,
    Holdings,
    Listing,
    Query,
    Refusal,
    StoredFile,
)


class Files(Protocol):
    """The service of files."""

    async def attach(self, file: str) -> FileFacts:
        """The file, noted there as one that is in vector stores: its deletion looks for it in them.  Raises FILE_NOT_FOUND."""

    async def require(self, file: str) -> None:
        """Raise FILE_NOT_FOUND unless it is there."""

    def read(self, file: str) -> AsyncIterator[bytes]:
        """Its bytes, in pieces of at most 1 MiB.  Raises FILE_NOT_FOUND."""


class Library(Protocol):
    """The retriever."""

    async def create(
        self,
        collection: str,
        title: str,
        description: str,
        metadata: Mapping[str, str],
        expire_after_seconds: int,
        request_id: str,
    ) -> Collection:
        """A new collection; under the id once, however often the call is made.  Raises COLLECTION_EXISTS."""

    async def collection(self, collection: str) -> Collection:
        """The collection.  Raises COLLECTION_NOT_FOUND."""

    async def collections(self, listing: Listing) -> tuple[list[Collection], bool]:
        """A page of collections, and whether the list goes on.  Raises COLLECTION_NOT_FOUND for an edge that is not there."""

    async def change(
        self,
        collection: str,
        title: str | None,
        description: str | None,
        metadata: Mapping[str, str] | None,
        expire_after_seconds: int | None,
    ) -> Collection:
        """Change it; None leaves what is.  Raises COLLECTION_NOT_FOUND, COLLECTION_EXPIRED."""

    async def keep(self, collection: str, etag: str) -> None:
        """Give it another etag, as it is used from now on.  Raises COLLECTION_NOT_FOUND, COLLECTION_EXPIRED, ETAG_MISMATCH."""

    async def remove(self, collection: str, etag: str = "") -> None:
        """Delete it with all that is in it.  Raises COLLECTION_NOT_FOUND, for another ``etag`` than is there ETAG_MISMATCH."""

    async def holdings(self, collection: str) -> Holdings:
        """What it holds of what the caller may read.  Raises COLLECTION_NOT_FOUND."""

    async def search(self, collection: str, query: Query) -> Found:
        """Passages.  Raises COLLECTION_NOT_FOUND, COLLECTION_EXPIRED, and what the retriever refuses a query with."""

    async def put(
        self, collection: str, draft: FileDraft, facts: FileFacts, content: AsyncIterator[bytes]
    ) -> StoredFile:
        """Make the file a document.  Raises COLLECTION_NOT_FOUND, COLLECTION_EXPIRED, and what is wrong with the bytes."""

    async def document(self, collection: str, document: str) -> StoredFile:
        """The document.  Raises COLLECTION_NOT_FOUND, DOCUMENT_NOT_FOUND."""

    async def documents(self, collection: str, listing: Listing) -> tuple[list[StoredFile], bool]:
        """A page of documents, and whether the list goes on.  Raises as :meth:`document` for an edge that is not there."""

    async def describe(self, collection: str, document: str, attributes: Attributes) -> StoredFile:
        """Give it other metadata.  Raises as :meth:`document`, COLLECTION_EXPIRED."""

    async def remove_document(self, collection: str, document: str) -> None:
        """Delete it.  Raises as :meth:`document`."""

    def text(self, collection: str, document: str) -> AsyncIterator[tuple[str, str]]:
        """Its text in pieces, each with the version that it is of.  Raises as :meth:`document`, DOCUMENT_VERSION_NOT_FOUND."""

    async def remember(self, collection: str, documents: Sequence[str], refused: Sequence[Refusal]) -> Batch:
        """Make documents a batch.  Raises COLLECTION_NOT_FOUND, COLLECTION_EXPIRED, DOCUMENT_NOT_FOUND."""

    async def batch(self, collection: str, batch: str) -> Batch:
        """The batch.  Raises COLLECTION_NOT_FOUND, DOCUMENT_BATCH_NOT_FOUND."""

    async def cancel(self, collection: str, batch: str) -> Batch:
        """Delete what is not searchable of it.  Raises as :meth:`batch`."""

    async def batch_documents(self, collection: str, batch: str, listing: Listing) -> tuple[list[StoredFile], bool]:
        """A page of its documents, and whether the list goes on.  Raises as :meth:`batch`, DOCUMENT_NOT_FOUND."""
