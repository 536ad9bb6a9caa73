"""Vectors of texts: what is asked and what comes back, and the embedder as the gateway uses it.

Invariant: the gateway adds nothing to a vector and keeps nothing of a text; whose models may be named is the embedder's
word, by the caller's own assertion.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Protocol


class Purpose(Enum):
    """What texts are for; models with prefixes treat the two differently."""

    DOCUMENT = "document"
    QUERY = "query"


class Element(Enum):
    """The element type that vectors come in."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Texts to embed, or their tokens.  An empty model is the default one; 0 dimensions keeps all."""

    model: str
    texts: tuple[str, ...] = ()
    tokens: tuple[tuple[int, ...], ...] = ()
    purpose: Purpose = Purpose.DOCUMENT
    element: Element = Element.FLOAT32
    dimensions: int = 0
    no_store: bool = False


@dataclass(frozen=True, slots=True)
class Vectors:
    """A matrix [texts, dimensions] as little-endian bytes; tokens of each text before truncation.

    ``scales`` has a factor a row where elements are INT8.
    """

    packed: bytes
    element: Element
    shape: tuple[int, ...]
    scales: tuple[float, ...]
    token_counts: tuple[int, ...]
    truncated: tuple[bool, ...]
    model: str
    model_digest: str


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """A model that may be named; ``version`` only of one of the tenant's own, ``problem`` why it cannot be used."""

    name: str
    digest: str
    dimensions: int
    max_tokens: int
    compute_dtype: str
    normalised: bool
    loaded: bool
    problem: str
    version: str


class Embedder(Protocol):
    """The embedder.  Raises Failure; an unreachable one names itself."""

    async def embed(self, wanted: Wanted) -> Vectors:
        """Vectors in the order of the texts."""

    async def models(self) -> list[EmbeddingModel]:
        """What may be named, the default first."""


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The verbs of embedding."""

    embedder: Embedder

    async def create(self, wanted: Wanted) -> Vectors:
        """Vectors of texts.  Raises what the embedder refuses with."""
        return await self.embedder.embed(wanted)

    async def models(self) -> list[EmbeddingModel]:
        """What may be named, the default first.  Raises PEER_UNAVAILABLE."""
        return await self.embedder.models()
