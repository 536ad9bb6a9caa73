"""An embedder without a model, for tests of what is asked of one: vectors out of a hash, words for tokens."""

import asyncio
import hashlib
from collections.abc import Sequence

import numpy as np

from services.retriever.ingestion.embeddings import EncoderFacts, Vectors
from tests.unit.retriever.encoding import LocalEmbeddings

_DIMENSIONS = 16


class HashedEmbeddings(LocalEmbeddings):
    """As :class:`LocalEmbeddings`, which it loads no model for."""

    def __init__(self) -> None:
        self.digest = "sha256:" + "5" * 64
        self.embedded: list[str] = []
        self.absent = False
        self.open = asyncio.Event()
        self.open.set()
        self.asked = asyncio.Event()

    async def facts(self) -> EncoderFacts:
        """As the Protocol says."""
        self._present()
        return EncoderFacts(self.digest, _DIMENSIONS, 256)

    async def count(self, texts: Sequence[str]) -> list[int]:
        """As the Protocol says."""
        self._present()
        return [len(text.split()) for text in texts]

    def _vectors(self, texts: Sequence[str]) -> Vectors:
        packed = []
        for text in texts:
            seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
            values = np.random.default_rng(seed).standard_normal(_DIMENSIONS)
            packed.append((values / np.linalg.norm(values)).astype("<f2").tobytes())
        return Vectors(self.digest, tuple(packed))
