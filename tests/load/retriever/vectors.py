"""The real embedder's model in this process, and its vectors on disk between runs: the same texts are computed once."""

import hashlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.chassis import models
from services.embedder import model
from services.embedder.batching import Batch, Product, TokenIds, padded_length
from services.embedder.reranking import late_interaction
from services.retriever.ingestion.embeddings import EncoderFacts, Vectors

Matrix = NDArray[np.float32]
_BATCH_TOKENS = 2048
_SPECIAL_TOKENS = 2


class Encoder:
    """Implements ``services.retriever.ingestion.embeddings.Embeddings``, in float32, one thread.  Close it."""

    def __init__(self, folder: Path) -> None:
        resolved = models.resolve(models.DEFAULT_EMBEDDING)
        self._encoder = model.load(resolved, dtype="float32", threads=1)
        self._tokenizer = model.FastTokenizer(resolved.path)
        self._limit = self._encoder.facts.max_tokens
        folder.mkdir(parents=True, exist_ok=True)
        # Several runs may share the file: one waits for another's commit.
        self._kept = sqlite3.connect(folder / "vectors.db", timeout=600, check_same_thread=False, isolation_level=None)
        self._kept.execute("CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB) WITHOUT ROWID")
        self._states: dict[str, Matrix] = {}
        self.computed_tokens = 0

    def close(self) -> None:
        """Close the file."""
        self._kept.close()

    def of(self, digest: str) -> "Encoder":
        """As the Protocol says: there is one model."""
        return self

    async def find(self, model: str) -> EncoderFacts:
        """As the Protocol says: there is one model."""
        return await self.facts()

    async def facts(self) -> EncoderFacts:
        """As the Protocol says."""
        facts = self._encoder.facts
        return EncoderFacts(facts.digest, facts.dimensions, facts.max_tokens)

    async def count(self, texts: Sequence[str]) -> list[int]:
        """As the Protocol says."""
        return [len(ids) - _SPECIAL_TOKENS for ids in self._tokenizer.ids(texts)]

    async def documents(self, texts: Sequence[str]) -> Vectors:
        """As the Protocol says."""
        packed = tuple(row.astype("<f2").tobytes() for row in self.vectors(texts))
        return Vectors(self._encoder.facts.digest, packed)

    async def queries(self, texts: Sequence[str], *, no_store: bool = False) -> Vectors:
        """As the Protocol says."""
        return await self.documents(texts)

    async def rerank(self, query: str, passages: Sequence[str], model: str = "") -> list[float]:
        """As the Protocol says, by late interaction; a passage's token vectors are computed once a run."""
        missing = [text for text in dict.fromkeys([query, *passages]) if text not in self._states]
        for text, states in zip(missing, self._computed(missing, Product.TOKENS), strict=True):
            self._states[text] = states.astype(np.float16)
        asked = self._states[query].astype(np.float32)
        return [late_interaction(asked, self._states[text].astype(np.float32)) for text in passages]

    def forget_states(self) -> None:
        """Give the memory of token vectors back."""
        self._states.clear()

    def vectors(self, texts: Sequence[str]) -> Matrix:
        """Vectors of length 1, [texts, dimensions]; of each text its first tokens that the model takes."""
        keys = [hashlib.sha256(f"{self._encoder.facts.digest} float32 {text}".encode()).digest() for text in texts]
        known = {key: self._kept.execute("SELECT vector FROM vectors WHERE key = ?", (key,)).fetchone() for key in keys}
        missing = {key: text for key, text in zip(keys, texts, strict=True) if known[key] is None}
        for first in range(0, len(missing), 256):
            some = list(missing.items())[first : first + 256]
            rows = self._computed([text for _, text in some], Product.POOLED)
            pairs = [(key, row.astype("<f4").tobytes()) for (key, _), row in zip(some, rows, strict=True)]
            self._kept.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?)", pairs)
            known.update({key: (packed,) for key, packed in pairs})
        return np.stack([np.frombuffer(known[key][0], "<f4") for key in keys])

    def compute(self, texts: Sequence[str]) -> None:
        """What :meth:`vectors` does for texts that it does not know, for the time that it takes."""
        self._computed(texts, Product.POOLED)

    def _computed(self, texts: Sequence[str], product: Product) -> list[Matrix]:
        ids = [self._cut(it) for it in self._tokenizer.ids(texts)]
        found: dict[int, Matrix] = {}
        batch: list[int] = []
        for place in sorted(range(len(ids)), key=lambda at: len(ids[at])):
            if batch and padded_length(len(ids[place])) * (len(batch) + 1) > _BATCH_TOKENS:
                self._run(batch, ids, product, found)
                batch = []
            batch.append(place)
        if batch:
            self._run(batch, ids, product, found)
        return [found[place] for place in range(len(ids))]

    def _run(self, places: Sequence[int], ids: Sequence[TokenIds], product: Product, found: dict[int, Matrix]) -> None:
        some = tuple(ids[place] for place in places)
        self.computed_tokens += sum(map(len, some))
        rows = self._encoder.compute(Batch(product, some))
        found.update(zip(places, rows, strict=True))

    def _cut(self, ids: TokenIds) -> TokenIds:
        return ids if len(ids) <= self._limit else (*ids[: self._limit - 1], ids[-1])
