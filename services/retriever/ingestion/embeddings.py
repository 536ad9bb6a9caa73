"""What the retriever asks of the embedder.  Over its stub in ``peers.py``."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class EncoderFacts:
    """A model that serves now."""

    digest: str
    dimensions: int
    max_tokens: int
    name: str = ""


@dataclass(frozen=True, slots=True)
class Vectors:
    """Packed vectors, little-endian binary16, one a text, and the model that they come from."""

    digest: str
    packed: tuple[bytes, ...]


class Embeddings(Protocol):
    """Texts to vectors, for the tenant of the current request, whose own models count beside the deployment's.

    All raise PEER_UNAVAILABLE (or another failure of code UNAVAILABLE) while there is no embedder.
    """

    def of(self, digest: str) -> "Embeddings":
        """The same embedder, asked for the model with this digest; empty is the default.

        Where it serves none of this digest, the default answers, and says that it is the default.
        """

    async def find(self, model: str) -> EncoderFacts:
        """The model of this name or digest.

        Raises EMBEDDING_MODEL_NOT_FOUND with those that there are, FIELD_INVALID for a reranker.
        """

    async def facts(self) -> EncoderFacts:
        """The model that serves."""

    async def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without the special ones."""

    async def documents(self, texts: Sequence[str]) -> Vectors:
        """Vectors of passages, which the embedder does not remember.  Waits where its queue is full."""

    async def queries(self, texts: Sequence[str], *, no_store: bool = False) -> Vectors:
        """Vectors of questions; with ``no_store`` the embedder remembers none of them."""

    async def rerank(self, query: str, passages: Sequence[str], model: str = "") -> list[float]:
        """How well each passage, at most 200 of them, answers the question; higher is better.

        By the reranker, or the token vectors of the embedding model, of this name or digest; empty is the default.
        Raises EMBEDDING_MODEL_NOT_FOUND.
        """
