"""Texts and vectors drawn by lot, as many as are wanted, for what depends on how many there are and not on what they say.

Texts are sentences of public abstracts in another order, so that words are as frequent as words are; vectors lie around
common centres, as those of texts do.  Invariant: the same seed and the same text give the same bytes.
"""

import gzip
import hashlib
import json
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.retriever.ingestion.embeddings import EncoderFacts, Vectors

DIMENSIONS = 384
_DIGEST = "sha256:drawn"
_MODEL_TOKENS = 256
_CENTRES = 512
# How far a vector lies from its centre, beside the centre's own length.
_SPREAD = 0.9
_SENTENCES = 5
_TOKENS_A_WORD = 1.4


class DrawnTexts:
    """Passages of about 170 tokens, a chunk each, and questions about some of their sentences."""

    def __init__(self, data: Path, seed: int = 5) -> None:
        with gzip.open(data / "ir-scifact" / "corpus.jsonl.gz", "rt") as lines:
            abstracts = [json.loads(line)["text"] for line in lines]
        self._sentences = [found for text in abstracts for found in re.split(r"(?<=[.?!])\s+", text) if len(found) > 30]
        queries = (data / "ir-scifact" / "queries.train.jsonl").read_text().splitlines()
        self.questions = [json.loads(line)["text"] for line in queries]
        self._chance = random.Random(seed)

    def passages(self, count: int) -> Iterator[str]:
        """The next passages."""
        for _ in range(count):
            yield " ".join(self._chance.choices(self._sentences, k=_SENTENCES))

    def document(self, passages: int) -> bytes:
        """A Markdown document with a section for each passage."""
        sections = [f"## Section {self._chance.getrandbits(32):x}\n\n{text}\n" for text in self.passages(passages)]
        return f"# Document {self._chance.getrandbits(32):x}\n\n{''.join(sections)}".encode()


class DrawnEmbeddings:
    """Implements ``services.retriever.ingestion.embeddings.Embeddings`` without a model.  ``computed`` counts texts."""

    def __init__(self) -> None:
        self._centres = np.random.default_rng(3).normal(size=(_CENTRES, DIMENSIONS)).astype(np.float32)
        self._centres /= np.linalg.norm(self._centres, axis=1, keepdims=True)
        self.computed = 0

    def of(self, digest: str) -> "DrawnEmbeddings":
        """As the Protocol says."""
        return self

    async def find(self, model: str) -> EncoderFacts:
        """As the Protocol says."""
        return await self.facts()

    async def facts(self) -> EncoderFacts:
        """As the Protocol says."""
        return EncoderFacts(_DIGEST, DIMENSIONS, _MODEL_TOKENS)

    async def count(self, texts: Sequence[str]) -> list[int]:
        """As the Protocol says; about as many as a word piece tokenizer finds."""
        return [round(_TOKENS_A_WORD * len(text.split())) for text in texts]

    async def documents(self, texts: Sequence[str]) -> Vectors:
        """As the Protocol says."""
        self.computed += len(texts)
        return Vectors(_DIGEST, tuple(row.tobytes() for row in self.vectors(texts)))

    async def queries(self, texts: Sequence[str], *, no_store: bool = False) -> Vectors:
        """As the Protocol says."""
        return Vectors(_DIGEST, tuple(row.tobytes() for row in self.vectors(texts)))

    async def rerank(self, query: str, passages: Sequence[str], model: str = "") -> list[float]:
        """As the Protocol says; all alike."""
        return [0.0 for _ in passages]

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float16]:
        """A vector of length 1 for each text, [texts, dimensions], that follows from it."""
        rows = np.empty((len(texts), DIMENSIONS), dtype=np.float32)
        for place, text in enumerate(texts):
            seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
            noise = np.random.Generator(np.random.SFC64(seed)).standard_normal(DIMENSIONS, dtype=np.float32)
            rows[place] = self._centres[seed % _CENTRES] + _SPREAD * noise / np.sqrt(np.float32(DIMENSIONS))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows.astype("<f2")
