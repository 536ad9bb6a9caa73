"""What a replay asks of others.  Every method raises Failure; an unreachable peer names itself."""

from collections.abc import Sequence
from typing import Protocol

from gateway.generation import Message, Receipt, SourceSpan, ToolUse
from gateway.replaying.nouns import Reread
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
    """The documents, at any version that is still kept."""

    async def read(self, span: SourceSpan, as_readers: Sequence[str]) -> Reread:
        """The characters of a span and the title of its document; without a text where that version is gone."""
