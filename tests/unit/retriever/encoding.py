"""The retriever's view of an embedder, over the real model in this process: counts what it is asked, can be away."""

import asyncio
from collections.abc import Sequence

import numpy as np

from services.chassis.errors import Failure, Reason
from services.embedder.batching import Batch, Product
from services.embedder.model import FastTokenizer, TorchEncoder
from services.retriever.ingestion.embeddings import Embeddings, EncoderFacts, Vectors


class LocalEmbeddings:
    """Implements ``services.retriever.ingestion.embeddings.Embeddings``."""

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

    def of(self, digest: str) -> "Embeddings":
        return self

    async def find(self, model: str) -> EncoderFacts:
        return await self.facts()

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

    async def queries(self, texts: Sequence[str], *, no_store: bool = False) -> Vectors:
        self._present()
        return self._vectors(texts)

    async def rerank(self, query: str, passages: Sequence[str], model: str = "") -> list[float]:
        self._present()
        asked, *said = [np.frombuffer(it, "<f2").astype(np.float32) for it in self._vectors([query, *passages]).packed]
        return [float(asked @ it) for it in said]

    def _vectors(self, texts: Sequence[str]) -> Vectors:
        limit = self._encoder.facts.max_tokens
        packed = []
        for ids in self._tokenizer.ids(texts):
            batch = Batch(Product.POOLED, (ids[:limit],))
            packed.append(self._encoder.compute(batch)[0].astype(np.float16).tobytes())
        return Vectors(self.digest, tuple(packed))


SECOND = "sha256:" + "2" * 64
SECOND_DIMENSIONS = 128


class TwoModels(LocalEmbeddings):
    """With a second model, ``second``: shorter vectors of another kind, and half the tokens a text."""

    def __init__(self, encoder: TorchEncoder, tokenizer: FastTokenizer) -> None:
        super().__init__(encoder, tokenizer)
        self.by_second: list[str] = []
        self.asked_of: list[str] = []
        # Four texts have vectors of the second model.
        self.four = asyncio.Event()

    def of(self, digest: str) -> "Embeddings":
        return Second(self) if digest == SECOND else self

    async def find(self, model: str) -> EncoderFacts:
        found = {"first": await self.facts(), "second": await Second(self).facts(), SECOND: await Second(self).facts()}
        if model not in found:
            raise Failure(Reason.EMBEDDING_MODEL_NOT_FOUND, name=model, fate="", known="first, second", field="model")
        return found[model]

    async def queries(self, texts: Sequence[str], *, no_store: bool = False) -> Vectors:
        self.asked_of.append(self.digest)
        return await super().queries(texts)


class Second:
    """The second model of :class:`TwoModels`."""

    def __init__(self, both: TwoModels) -> None:
        self._both = both

    def of(self, digest: str) -> "Embeddings":
        return self._both.of(digest)

    async def find(self, model: str) -> EncoderFacts:
        return await self._both.find(model)

    async def facts(self) -> EncoderFacts:
        facts = await self._both.facts()
        return EncoderFacts(SECOND, SECOND_DIMENSIONS, facts.max_tokens // 4, "second")

    async def count(self, texts: Sequence[str]) -> list[int]:
        return await self._both.count(texts)

    async def documents(self, texts: Sequence[str]) -> Vectors:
        found = await self._both.documents(texts)
        self._both.by_second += texts
        if len(self._both.by_second) >= 4:
            self._both.four.set()
        return self._turned(found)

    async def queries(self, texts: Sequence[str], *, no_store: bool = False) -> Vectors:
        self._both._present()
        self._both.asked_of.append(SECOND)
        return self._turned(self._both._vectors(texts))

    async def rerank(self, query: str, passages: Sequence[str], model: str = "") -> list[float]:
        return await self._both.rerank(query, passages)

    @staticmethod
    def _turned(found: Vectors) -> Vectors:
        packed = []
        for vector in found.packed:
            turned = -np.frombuffer(vector, "<f2").astype("f4")[::-1][:SECOND_DIMENSIONS]
            packed.append((turned / np.linalg.norm(turned)).astype("<f2").tobytes())
        return Vectors(SECOND, tuple(packed))
