"""The verbs of the embedder: embed and count; reranking is in :mod:`services.embedder.reranking`.

Invariant: what is cut at the model's limit is reported, text by text, and the count of
tokens is that of the whole text; nothing is shortened in silence.
"""

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from services.chassis.errors import Failure, Reason
from services.embedder.batching import Batcher, Flow, Product, TokenIds, Vector
from services.embedder.cache import Space, VectorCache
from services.embedder.cache_file import Kept
from services.embedder.model import EncoderFacts, Tokenizer, packed
from services.embedder.ordered import in_order
from services.embedder.shelf import Shelf

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
    """Who asks, and until when (on the monotonic clock; None is for ever).

    ``tenant`` is empty for a service that acts for none: it has no models of its own.
    """

    owner: str
    deadline: float | None = None
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Texts to embed.  An empty model is the default one, others go by name or digest; 0 dimensions keeps all.

    With ``no_store`` nothing is remembered of them.  Without texts their ``tokens`` are embedded, each text's without
    the special tokens around it; of them nothing is remembered in any case.
    """

    model: str
    texts: tuple[str, ...]
    use: Use
    dimensions: int = 0
    no_store: bool = False
    tokens: tuple[TokenIds, ...] = ()


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors [texts, dimensions] of length 1, in the order of the texts; tokens before truncation."""

    facts: EncoderFacts
    vectors: Vector
    token_counts: tuple[int, ...]
    truncated: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Counted:
    """Tokens of each text under a model."""

    facts: EncoderFacts
    token_counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class EncodingModel:
    """One encoder in memory behind its queue.  ``shortens``: its first dimensions alone are a vector."""

    facts: EncoderFacts
    tokenizer: Tokenizer
    batcher: Batcher
    prefixes: Prefixes
    shortens: bool

    def cut(self, whole: Sequence[TokenIds]) -> list[TokenIds]:
        """Each sequence within the limit; the last token, which ends a text, is kept."""
        limit = self.facts.max_tokens
        return [ids if len(ids) <= limit else (*ids[: limit - 1], ids[-1]) for ids in whole]

    def is_long(self, ids: TokenIds) -> bool:
        """Whether a sequence is cut."""
        return len(ids) > self.facts.max_tokens

    def dimensions(self, wanted: int) -> int:
        """How many dimensions a vector keeps when so many are wanted.  Raises FIELD_INVALID."""
        full = self.facts.dimensions
        if wanted in (0, full):
            return full
        if wanted > full or not self.shortens:
            problem = f"{self.facts.name} gives vectors of {full} dimensions; ask for 0 or {full}"
            raise Failure(Reason.FIELD_INVALID, field="dimensions", problem=problem)
        return wanted


class OwnEncoders(Protocol):
    """The encoders that tenants have in the registry."""

    def encoder(self, asking: Asking, name: str, known: Sequence[str]) -> AbstractAsyncContextManager[EncodingModel]:
        """The asking tenant's encoder of this name or digest, in memory for as long as the block lasts.

        Raises EMBEDDING_MODEL_NOT_FOUND, which names those ``known`` beside, and whatever keeps it from being had.
        """


@dataclass(frozen=True, slots=True)
class Embedder:
    """The encoders, and before them what was computed already; beyond the deployment's the asking tenant's own."""

    encoders: Shelf[EncodingModel]
    cache: VectorCache
    blocking: Blocking
    stream_ahead: int
    own: OwnEncoders | None = None

    async def embed(self, asking: Asking, wanted: Wanted, *, patient: bool = False) -> Embedded:
        """Vectors of the texts.

        Raises EMBEDDING_MODEL_NOT_FOUND, MODEL_SOURCE_INVALID, TEXT_EMPTY, FIELD_INVALID
        (dimensions, token_ids), and EMBEDDING_QUEUE_FULL unless patient.
        """
        async with chosen(self.encoders, self.own, asking, wanted.model) as model:
            if wanted.tokens:
                return await self._of_tokens(model, asking, wanted, patient)
            return await self._embedded(model, asking, wanted, patient)

    async def _of_tokens(self, model: EncodingModel, asking: Asking, wanted: Wanted, patient: bool) -> Embedded:
        """Vectors of texts that came as tokens: what stands around a text is put around them, the prefix included."""
        dimensions = model.dimensions(wanted.dimensions)
        require_tokens(wanted.tokens, model.facts)
        [around] = await self.blocking(model.tokenizer.ids, [model.prefixes.of(wanted.use)])
        whole = [(*around[:-1], *ids, around[-1]) for ids in wanted.tokens]
        flow = Flow(asking.owner, urgent=wanted.use is Use.QUERY)
        vectors = await model.batcher.submit(
            flow, Product.POOLED, model.cut(whole), deadline=asking.deadline, patient=patient
        )
        counts = tuple(map(len, whole))
        return Embedded(model.facts, packed(list(vectors), dimensions), counts, tuple(map(model.is_long, whole)))

    async def _embedded(self, model: EncodingModel, asking: Asking, wanted: Wanted, patient: bool) -> Embedded:
        dimensions = model.dimensions(wanted.dimensions)
        require_words(wanted.texts)
        prefix = model.prefixes.of(wanted.use)
        space = Space(asking.owner, model.facts.build, wanted.use.value)
        keys, found = await self.cache.find(space, [prefix + text for text in wanted.texts])
        missing = {key: prefix + text for key, text in zip(keys, wanted.texts, strict=True) if key not in found}
        if missing:
            found |= await self._computed(model, asking, wanted, missing, patient)
        rows = [found[key] for key in keys]
        return Embedded(
            model.facts,
            packed([row.vector for row in rows], dimensions),
            tuple(row.tokens for row in rows),
            tuple(row.tokens > model.facts.max_tokens for row in rows),
        )

    async def _computed(
        self, model: EncodingModel, asking: Asking, wanted: Wanted, missing: Mapping[bytes, str], patient: bool
    ) -> Mapping[bytes, Kept]:
        """The vectors of texts that were not kept, by their keys; now they are, unless they are not to be stored."""
        whole = dict(zip(missing, await self.blocking(model.tokenizer.ids, list(missing.values())), strict=True))
        # Computed for another request since we asked.
        found = self.cache.recent(list(whole))
        left = {key: ids for key, ids in whole.items() if key not in found}
        if not left:
            return found
        flow = Flow(asking.owner, urgent=wanted.use is Use.QUERY)
        vectors = await model.batcher.submit(
            flow, Product.POOLED, model.cut(list(left.values())), deadline=asking.deadline, patient=patient
        )
        computed = {key: Kept(vector.copy(), len(left[key])) for key, vector in zip(left, vectors, strict=True)}
        if not wanted.no_store:
            self.cache.keep(computed)
        return found | computed

    def embed_all(self, asking: Asking, requests: AsyncIterable[Wanted]) -> AsyncIterator[Embedded]:
        """Answers in the order of the requests, a few of them worked on at once; waits where the queue is full."""

        async def answer(wanted: Wanted) -> Embedded:
            return await self.embed(asking, wanted, patient=True)

        return in_order(requests, answer, self.stream_ahead)

    async def count(self, asking: Asking, model: str, texts: Sequence[str]) -> Counted:
        """Tokens of each text, special tokens included.  Raises EMBEDDING_MODEL_NOT_FOUND, MODEL_SOURCE_INVALID."""
        async with chosen(self.encoders, self.own, asking, model) as named:
            return Counted(named.facts, tuple(map(len, await self.blocking(named.tokenizer.ids, texts))))


@asynccontextmanager
async def chosen(
    encoders: Shelf[EncodingModel], own: OwnEncoders | None, asking: Asking, model: str, others: Sequence[str] = ()
) -> AsyncIterator[EncodingModel]:
    """The encoder that a name means to whoever asks: the deployment's first, so that no tenant takes a name away.

    Raises EMBEDDING_MODEL_NOT_FOUND, which names ``others`` beside the encoders, and MODEL_SOURCE_INVALID.
    """
    place = await encoders.named(model)
    if place is not None:
        yield await place.ready()
    elif own is not None:
        async with own.encoder(asking, model, [*encoders.names(), *others]) as found:
            yield found
    else:
        yield await encoders.require(model, others)


def require_tokens(texts: Sequence[TokenIds], facts: EncoderFacts) -> None:
    """Raises FIELD_INVALID for the first text with a token that the model does not have."""
    for number, ids in enumerate(texts):
        if any(not 0 <= token < facts.vocabulary for token in ids):
            problem = (
                f"{facts.name} has tokens from 0 to {facts.vocabulary - 1}: another model's tokenizer made these. "
                "Send the texts themselves"
            )
            raise Failure(Reason.FIELD_INVALID, field=f"token_ids[{number}]", problem=problem)


def require_words(texts: Sequence[str]) -> None:
    """Raises TEXT_EMPTY for the first text without any."""
    for number, text in enumerate(texts):
        if not text.strip():
            raise Failure(Reason.TEXT_EMPTY, index=number)
