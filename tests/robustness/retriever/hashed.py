"""An embedder without a model: vectors out of a hash, and a log of every text that it is asked for.

What is counted with it is who asks for what how often; vectors need only be what the same
text always gets.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from services.retriever.ingestion.embeddings import EncoderFacts, Vectors
from services.retriever.ingestion.publishing import text_digest
from tests.robustness.retriever.sequences import tokens

DIGEST = "sha256:" + "5" * 64
DIMENSIONS = 16


def vector(text: str) -> bytes:
    """16 numbers of length 1 as little-endian binary16."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
    values = np.random.default_rng(seed).standard_normal(DIMENSIONS)
    return (values / np.linalg.norm(values)).astype("<f2").tobytes()


class HashedEmbeddings:
    """What ingestion asks of ``services.retriever.ingestion.embeddings.Embeddings``; ``pass_point`` is called around every answer."""

    def __init__(self, log: Path, pass_point: Callable[[str], None]) -> None:
        self._log = log
        self._pass_point = pass_point

    def of(self, digest: str) -> "HashedEmbeddings":
        return self

    async def find(self, model: str) -> EncoderFacts:
        return await self.facts()

    async def facts(self) -> EncoderFacts:
        """As the Protocol says."""
        return EncoderFacts(DIGEST, DIMENSIONS, 40)

    async def count(self, texts: Sequence[str]) -> list[int]:
        """As the Protocol says."""
        return [tokens(text) for text in texts]

    async def documents(self, texts: Sequence[str]) -> Vectors:
        """As the Protocol says; written down before anything is computed."""
        line = json.dumps([text_digest(text).hex() for text in texts]) + "\n"
        log = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(log, line.encode())
        os.close(log)
        self._pass_point("asked")
        vectors = tuple(vector(text) for text in texts)
        self._pass_point("answered")
        return Vectors(DIGEST, vectors)

    async def queries(self, texts: Sequence[str], *, no_store: bool = False) -> Vectors:
        """As the Protocol says."""
        return Vectors(DIGEST, tuple(vector(text) for text in texts))
