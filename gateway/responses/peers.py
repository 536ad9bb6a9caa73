"""What responses stand on beside the stages of an answer.  Every method raises Failure; who is away names itself."""

from typing import Protocol

from gateway.responses.nouns import Item, Listing, Response
from gateway.vector_stores.nouns import StoredFile


class Archive(Protocol):
    """Where responses are kept, each with what it was asked."""

    async def keep(self, response: Response, asked: tuple[Item, ...]) -> None:
        """Durable when this returns.  Raises RESPONSE_NOT_FOUND for a previous one that is there no more."""

    async def response(self, response: str) -> Response:
        """The response.  Raises RESPONSE_NOT_FOUND."""

    async def conversation(self, newest: str) -> list[Item]:
        """What was asked and answered up to a response, oldest first, without the passages that searches found.

        Raises RESPONSE_NOT_FOUND, CONVERSATION_TOO_LONG, and FIELD_INVALID for more than a model could read.
        """

    async def remove(self, response: str) -> None:
        """Delete it.  Raises RESPONSE_NOT_FOUND."""

    async def input_items(self, response: str, listing: Listing) -> tuple[list[Item], bool]:
        """A page of what it was asked, and whether the list goes on.  Raises RESPONSE_NOT_FOUND, FIELD_INVALID."""


class Documents(Protocol):
    """The retriever, as far as a document is described."""

    async def document(self, collection: str, document: str) -> StoredFile:
        """The document.  Raises COLLECTION_NOT_FOUND, DOCUMENT_NOT_FOUND."""
