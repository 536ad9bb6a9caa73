"""Passages to an order, by how well they answer a query.

By default late interaction over the encoder's own token vectors, which needs no second
model; a cross-encoder, of the settings or of the asking tenant's own, where the request
names one.  Invariant: what is cut at a model's limit is reported, passage by passage.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from services.embedder.batching import Batcher, Flow, Product, Vector
from services.embedder.cross_encoder import PairTokenizer
from services.embedder.embedding import Asking, Blocking, EncodingModel, require_words
from services.embedder.model import EncoderFacts
from services.embedder.shelf import Shelf


@dataclass(frozen=True, slots=True)
class Ranked:
    """One score a passage, in the order given; higher is better."""

    facts: EncoderFacts
    scores: tuple[float, ...]
    truncated: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class PairModel:
    """One cross-encoder in memory behind its queue."""

    facts: EncoderFacts
    tokenizer: PairTokenizer
    batcher: Batcher


class OwnRankers(Protocol):
    """The cross-encoders, and the encoders, that tenants have in the registry."""

    def ranker(
        self, asking: Asking, name: str, known: Sequence[str]
    ) -> AbstractAsyncContextManager[EncodingModel | PairModel]:
        """The asking tenant's model of this name or digest, in memory for as long as the block lasts.

        Raises EMBEDDING_MODEL_NOT_FOUND, which names those ``known`` beside, and whatever keeps it from being had.
        """


@dataclass(frozen=True, slots=True)
class Reranker:
    """The encoders, of which the default ranks when none is named, and the cross-encoders; then the tenant's own."""

    encoders: Shelf[EncodingModel]
    pairs: Shelf[PairModel]
    blocking: Blocking
    own: OwnRankers | None = None

    async def rank(self, asking: Asking, model: str, query: str, passages: Sequence[str]) -> Ranked:
        """Scores of the passages; in [-1, 1] by late interaction, in [0, 1] by a cross-encoder.

        Raises EMBEDDING_MODEL_NOT_FOUND, MODEL_SOURCE_INVALID, TEXT_EMPTY and EMBEDDING_QUEUE_FULL.
        """
        require_words([query])
        require_words(passages)
        pairs = await self.pairs.named(model) if model else None
        if pairs is not None:
            return await self._by_pairs(await pairs.ready(), asking, query, passages)
        encoder = await self.encoders.named(model)
        if encoder is not None:
            return await self._by_tokens(await encoder.ready(), asking, query, passages)
        if self.own is None:
            return await self._by_tokens(
                await self.encoders.require(model, self.pairs.names()), asking, query, passages
            )
        async with self.own.ranker(asking, model, [*self.encoders.names(), *self.pairs.names()]) as own:
            if isinstance(own, PairModel):
                return await self._by_pairs(own, asking, query, passages)
            return await self._by_tokens(own, asking, query, passages)

    async def _by_tokens(self, model: EncodingModel, asking: Asking, query: str, passages: Sequence[str]) -> Ranked:
        """ColBERT's MaxSim (Khattab and Zaharia, 2020).

        For each token of the query the greatest cosine with any token of the passage; the score is their mean.
        """
        texts = [model.prefixes.query + query, *(model.prefixes.document + passage for passage in passages)]
        asked, *whole = await self.blocking(model.tokenizer.ids, texts)
        states = await model.batcher.submit(
            Flow(asking.owner, urgent=True), Product.TOKENS, model.cut([asked, *whole]), deadline=asking.deadline
        )
        scores = tuple(late_interaction(states[0], passage) for passage in states[1:])
        return Ranked(model.facts, scores, tuple(map(model.is_long, whole)))

    async def _by_pairs(self, model: PairModel, asking: Asking, query: str, passages: Sequence[str]) -> Ranked:
        limit = model.facts.max_tokens
        pairs = await self.blocking(model.tokenizer.pairs, query, passages, limit)
        cut = [ids if len(ids) <= limit else (*ids[: limit - 1], ids[-1]) for ids in pairs]
        scores = await model.batcher.submit(
            Flow(asking.owner, urgent=True), Product.SCORE, cut, deadline=asking.deadline
        )
        return Ranked(model.facts, tuple(float(score[0]) for score in scores), tuple(len(ids) > limit for ids in pairs))


def late_interaction(query: Vector, passage: Vector) -> float:
    """Mean over query tokens of the greatest cosine with a passage token; [tokens, d] each, rows of length 1."""
    return float(np.mean(np.max(query @ passage.T, axis=1)))
