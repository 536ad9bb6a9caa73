"""The retriever's view of an embedder, over the real model in this process: counts what it is asked, can be away."""

import asyncio
from collections.abc import Sequence

import numpy as np

from services.chassis.errors import Failure, Reason
from services.embedder.batching import Batch, Product, padded_length
from services.embedder.model import FastTokenizer, TorchEncoder
from services.retriever.embeddings import EncoderFacts, Vectors


class LocalEmbeddings:
    """Implements ``services.retriever.embeddings.Embeddings``."""

    def __init__(self, encoder: TorchEncoder, tokenizer: FastTokenizer) -> None:
        self._encoder = encoder
        self._tokenizer = tokenizer
        self.digest = encoder.facts.digest
        self.embedded: list[str] = []
        self.absent = False
        # Cleared, it holds documents back until it is set again.
        self.open = asyncio.Event()
        self.open.set()
        self.asked = asyncio.Event()

    def _present(self) -> None:
        if self.absent:
            raise Failure(Reason.PEER_UNAVAILABLE, service="embedder")

    async def facts(self) -> EncoderFacts:
        self._present()
        return EncoderFacts(self.digest, self._encoder.facts.dimensions, self._encoder.facts.max_tokens)

    async def count(self, texts: Sequence[str]) -> list[int]:
        self._present()
        return [len(ids) - 2 for ids in self._tokenizer.ids(texts)]

    async def documents(self, texts: Sequence[str]) -> Vectors:
        self.asked.set()
        await self.open.wait()
        self._present()
        self.embedded += texts
        return self._vectors(texts)

    async def queries(self, texts: Sequence[str]) -> Vectors:
        self._present()
        return self._vectors(texts)

    async def rerank(self, query: str, passages: Sequence[str]) -> list[float]:
        self._present()
        asked, *said = [np.frombuffer(it, "<f2").astype(np.float32) for it in self._vectors([query, *passages]).packed]
        return [float(asked @ it) for it in said]

    def _vectors(self, texts: Sequence[str]) -> Vectors:
        limit = self._encoder.facts.max_tokens
        packed = []
        for ids in self._tokenizer.ids(texts):
            batch = Batch(Product.POOLED, padded_length(min(len(ids), limit)), (ids[:limit],))
            packed.append(self._encoder.compute(batch)[0].astype(np.float16).tobytes())
        return Vectors(self.digest, tuple(packed))
