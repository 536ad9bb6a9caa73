"""What a replay asks of others.  Every method raises Failure; an unreachable peer names itself."""

from collections.abc import Sequence
from typing import Protocol

from gateway.generation import Message, Receipt, SourceSpan, ToolUse
from gateway.replaying.nouns import Line, Reread
from gateway.routing import Route


class Receipts(Protocol):
    """Where receipts are kept."""

    async def receipt(self, request_id: str) -> Receipt:
        """The receipt of an earlier request of the caller's tenant.  Raises RECEIPT_NOT_FOUND."""


class Versions(Protocol):
    """Which versions there are."""

    async def resolve(self, name: str, sticky_key: str = "") -> Route:
        """The version that MODEL@sha256:… names.  Raises MODEL_NOT_FOUND."""


class Tokenizer(Protocol):
    """The models' own tokenizers and templates."""

    async def token_ids(
        self, prompt: Sequence[Message] | str, tools: ToolUse | None, base: str, version: str
    ) -> tuple[int, ...]:
        """A prompt's tokens exactly as a generation would build it; nothing is generated."""


class SourceTexts(Protocol):
    """The documents, at any version that is still kept, and the versions of their collections."""

    async def read(self, span: SourceSpan, as_readers: Sequence[str]) -> Reread:
        """The characters of a span and the title of its document; without a text where that version is gone."""

    async def version(self, collection: str) -> str:
        """The collection's version now; empty where it is gone or has expired."""


class Lines(Protocol):
    """The inputs of the tenant's batches, as long as their files are there."""

    async def line(self, request_id: str, answered_at: float) -> Line | None:
        """The line that was asked under an id and answered at this Unix time; None where it is nobody's that the caller reads."""
