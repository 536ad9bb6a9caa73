"""The services that files stand on, as they are used here.  Every method raises Failure; who is away names itself."""

from typing import Protocol

from gateway.files.nouns import Holders


class Files(Protocol):
    """The service of files."""

    async def attached(self, file: str) -> bool:
        """Whether it may be in vector stores.  Raises FILE_NOT_FOUND."""

    async def delete(self, file: str) -> bool:
        """Delete it; whether it may be in vector stores.  Raises FILE_NOT_FOUND."""


class Stores(Protocol):
    """The retriever."""

    async def holders(self, document: str) -> Holders:
        """The collections that hold a document with this id, that of a file."""

    async def remove_document(self, collection: str, document: str) -> None:
        """Delete it.  Raises COLLECTION_NOT_FOUND, DOCUMENT_NOT_FOUND."""
