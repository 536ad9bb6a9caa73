"""What the retriever asks of the generator.  Over its stub in ``peers_generator.py``.

Invariant: a text comes with the digest of the weights that wrote it, and the same digest,
messages, seed and limit are asked for the same text: what is kept by these need not be
written twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from services.chassis.errors import Failure, Reason


class Speaker(StrEnum):
    """Who says a turn."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a prompt."""

    speaker: Speaker
    content: str


@dataclass(frozen=True, slots=True)
class Writer:
    """The model that writes now: the digest of its weights, and the most tokens of prompt and text together."""

    digest: str
    context_tokens: int


@dataclass(frozen=True, slots=True)
class Written:
    """A text, the digest of the weights that wrote it, and whether the model itself came to its end."""

    text: str
    digest: str
    complete: bool


class Generator(Protocol):
    """Messages to text by the deployment's default base, for the tenant of the current request.

    All raise GENERATOR_NOT_SET where the retriever has no generator, and PEER_UNAVAILABLE, NOT_READY or OVERLOADED (all
    of code UNAVAILABLE) while it has one that cannot answer.
    """

    def require(self) -> None:
        """Raise GENERATOR_NOT_SET where there is none to ask; asks nobody."""

    async def writer(self) -> Writer:
        """The model that would write now."""

    async def tokens(self, turns: Sequence[Turn]) -> int:
        """Tokens of a prompt as it would be written from these turns."""

    async def complete(self, turns: Sequence[Turn], max_tokens: int, seed: int = 0) -> Written:
        """The likeliest text behind the turns (temperature 0), at most ``max_tokens`` of it.

        Raises PROMPT_TOO_LONG, DEADLINE_EXCEEDED.
        """


class NoGenerator:
    """Implements :class:`Generator` where there is none."""

    def require(self) -> None:
        """As the Protocol says."""
        raise Failure(Reason.GENERATOR_NOT_SET)

    async def writer(self) -> Writer:
        """As the Protocol says."""
        raise Failure(Reason.GENERATOR_NOT_SET)

    async def tokens(self, turns: Sequence[Turn]) -> int:
        """As the Protocol says."""
        raise Failure(Reason.GENERATOR_NOT_SET)

    async def complete(self, turns: Sequence[Turn], max_tokens: int, seed: int = 0) -> Written:
        """As the Protocol says."""
        raise Failure(Reason.GENERATOR_NOT_SET)
