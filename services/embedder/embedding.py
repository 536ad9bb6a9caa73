"""The verbs of the embedder: embed, count, rerank.

Invariant: what is cut at the model's limit is reported, text by text, and the count of
tokens is that of the whole text; nothing is shortened in silence.
"""

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

import numpy as np

from services.chassis.errors import Failure, Reason
from services.embedder.batching import Batcher, Flow, Product, TokenIds, Vector
from services.embedder.cache import Space, VectorCache
from services.embedder.cache_file import Kept
from services.embedder.model import EncoderFacts, Tokenizer, packed
from services.embedder.ordered import in_order

T = TypeVar("T")
# Runs blocking work in a thread: ``await blocking(function, argument)``.
Blocking = Callable[..., Awaitable[list[TokenIds]]]


class Use(Enum):
    """What a text is for."""

    QUERY = "query"
    DOCUMENT = "document"


@dataclass(frozen=True, slots=True)
class Prefixes:
    """What the model wants said before a text of each kind."""

    query: str = ""
    document: str = ""

    def of(self, use: Use) -> str:
        """The prefix of texts for ``use``."""
        return self.query if use is Use.QUERY else self.document


@dataclass(frozen=True, slots=True)
class Asking:
    """Who asks, and until when (on the monotonic clock; None is for ever)."""

    owner: str
    deadline: float | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Texts to embed.  An empty model is the default one; 0 dimensions keeps all."""

    model: str
    texts: tuple[str, ...]
    use: Use
    dimensions: int = 0


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors [texts, dimensions] of length 1, in the order of the texts; tokens before truncation."""

    facts: EncoderFacts
    vectors: Vector
    token_counts: tuple[int, ...]
    truncated: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Ranked:
    """One score a passage, in the order given; higher is better."""

    facts: EncoderFacts
    scores: tuple[float, ...]
    truncated: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Embedder:
    """One loaded model behind its queue.  ``shortens``: its first dimensions alone are a vector."""

    facts: EncoderFacts
    tokenizer: Tokenizer
    batcher: Batcher
    cache: VectorCache
    blocking: Blocking
    prefixes: Prefixes
    shortens: bool
    stream_ahead: int

    async def embed(self, asking: Asking, wanted: Wanted, *, patient: bool = False) -> Embedded:
        """Vectors of the texts.

        Raises EMBEDDING_MODEL_NOT_FOUND, TEXT_EMPTY, FIELD_INVALID (dimensions), and
        EMBEDDING_QUEUE_FULL unless patient.
        """
        self._require(wanted.model)
        dimensions = self._dimensions(wanted.dimensions)
        _require_words(wanted.texts)
        prefix = self.prefixes.of(wanted.use)
        space = Space(asking.owner, self.facts.build, wanted.use.value)
        keys, found = await self.cache.find(space, [prefix + text for text in wanted.texts])
        missing = {key: prefix + text for key, text in zip(keys, wanted.texts, strict=True) if key not in found}
        if missing:
            found |= await self._computed(asking, wanted.use, missing, patient)
        rows = [found[key] for key in keys]
        return Embedded(
            self.facts,
            packed([row.vector for row in rows], dimensions),
            tuple(row.tokens for row in rows),
            tuple(row.tokens > self.facts.max_tokens for row in rows),
        )

    async def _computed(
        self, asking: Asking, use: Use, missing: Mapping[bytes, str], patient: bool
    ) -> Mapping[bytes, Kept]:
        """The vectors of texts that were not kept, by their keys; now they are."""
        whole = dict(zip(missing, await self._ids(list(missing.values())), strict=True))
        # Computed for another request since we asked.
        found = self.cache.recent(list(whole))
        left = {key: ids for key, ids in whole.items() if key not in found}
        if not left:
            return found
        flow = Flow(asking.owner, urgent=use is Use.QUERY)
        vectors = await self.batcher.submit(
            flow, Product.POOLED, self._cut(list(left.values())), deadline=asking.deadline, patient=patient
        )
        computed = {key: Kept(vector.copy(), len(left[key])) for key, vector in zip(left, vectors, strict=True)}
        self.cache.keep(computed)
        return found | computed

    def embed_all(self, asking: Asking, requests: AsyncIterable[Wanted]) -> AsyncIterator[Embedded]:
        """Answers in the order of the requests, a few of them worked on at once; waits where the queue is full."""

        async def answer(wanted: Wanted) -> Embedded:
            return await self.embed(asking, wanted, patient=True)

        return in_order(requests, answer, self.stream_ahead)

    async def count(self, model: str, texts: Sequence[str]) -> tuple[int, ...]:
        """Tokens of each text, special tokens included.  Raises EMBEDDING_MODEL_NOT_FOUND."""
        self._require(model)
        return tuple(map(len, await self._ids(texts)))

    async def rerank(self, asking: Asking, model: str, query: str, passages: Sequence[str]) -> Ranked:
        """Scores by late interaction (ColBERT's MaxSim, Khattab and Zaharia, 2020).

        For each token of the query the greatest cosine with any token of the passage;
        the score is their mean, so it lies in [-1, 1].  Raises like :meth:`embed`.
        """
        self._require(model)
        _require_words([query])
        _require_words(passages)
        asked = await self._ids([self.prefixes.query + query])
        whole = await self._ids([self.prefixes.document + passage for passage in passages])
        states = await self.batcher.submit(
            Flow(asking.owner, urgent=True),
            Product.TOKENS,
            self._cut([*asked, *whole]),
            deadline=asking.deadline,
        )
        return Ranked(
            self.facts,
            tuple(late_interaction(states[0], passage) for passage in states[1:]),
            tuple(map(self._is_long, whole)),
        )

    async def _ids(self, texts: Sequence[str]) -> list[TokenIds]:
        return await self.blocking(self.tokenizer.ids, texts)

    def _cut(self, whole: Sequence[TokenIds]) -> list[TokenIds]:
        """Each sequence within the limit; the last token, which ends a text, is kept."""
        limit = self.facts.max_tokens
        return [ids if len(ids) <= limit else (*ids[: limit - 1], ids[-1]) for ids in whole]

    def _is_long(self, ids: TokenIds) -> bool:
        return len(ids) > self.facts.max_tokens

    def _require(self, model: str) -> None:
        if model not in ("", self.facts.name, self.facts.digest):
            raise Failure(Reason.EMBEDDING_MODEL_NOT_FOUND, name=model, known=self.facts.name, field="model")

    def _dimensions(self, wanted: int) -> int:
        full = self.facts.dimensions
        if wanted in (0, full):
            return full
        if wanted > full or not self.shortens:
            problem = f"{self.facts.name} gives vectors of {full} dimensions; ask for 0 or {full}"
            raise Failure(Reason.FIELD_INVALID, field="dimensions", problem=problem)
        return wanted


def late_interaction(query: Vector, passage: Vector) -> float:
    """Mean over query tokens of the greatest cosine with a passage token; [tokens, d] each, rows of length 1."""
    return float(np.mean(np.max(query @ passage.T, axis=1)))


def _require_words(texts: Sequence[str]) -> None:
    for number, text in enumerate(texts):
        if not text.strip():
            raise Failure(Reason.TEXT_EMPTY, index=number)
