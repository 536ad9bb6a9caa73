"""Vectors of texts: what is asked and what comes back, and the embedder as the gateway uses it.

Invariants: the gateway adds nothing to a vector and keeps nothing of a text; whose models may be named is the embedder's
word, by the caller's own assertion; no vector is given that nobody accounts for, and its receipt says what was asked.
"""

import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from gateway.generation import Receipt, Usage
from gateway.limits.gate import answered_by
from gateway.names import model_of
from gateway.receipts import Recorder
from services.chassis.context import current

_DIGEST = "sha256:"


class Purpose(Enum):
    """What texts are for; models with prefixes treat the two differently."""

    DOCUMENT = "document"
    QUERY = "query"


class Element(Enum):
    """The element type that vectors come in."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Texts to embed, or their tokens.  An empty model is the default one; 0 dimensions keeps all.

    An empty ``request_id`` means none was given.
    """

    model: str
    texts: tuple[str, ...] = ()
    tokens: tuple[tuple[int, ...], ...] = ()
    purpose: Purpose = Purpose.DOCUMENT
    element: Element = Element.FLOAT32
    dimensions: int = 0
    no_store: bool = False
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Vectors:
    """A matrix [texts, dimensions] as little-endian bytes; tokens of each text before truncation.

    ``scales`` has a factor a row where elements are INT8.
    """

    packed: bytes
    element: Element
    shape: tuple[int, ...]
    scales: tuple[float, ...]
    token_counts: tuple[int, ...]
    truncated: tuple[bool, ...]
    model: str
    model_digest: str


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """A model that may be named; ``version`` only of one of the tenant's own, ``problem`` why it cannot be used."""

    name: str
    digest: str
    dimensions: int
    max_tokens: int
    compute_dtype: str
    normalised: bool
    loaded: bool
    problem: str
    version: str


class Embedder(Protocol):
    """The embedder.  Raises Failure; an unreachable one names itself."""

    async def embed(self, wanted: Wanted) -> Vectors:
        """Vectors in the order of the texts."""

    async def models(self) -> list[EmbeddingModel]:
        """What may be named, the default first."""


class Embeddings:
    """The verbs of embedding.  ``now`` gives Unix time in seconds, ``new_id`` draws a UUID."""

    def __init__(
        self, embedder: Embedder, recorder: Recorder, now: Callable[[], float], new_id: Callable[[], str]
    ) -> None:
        self._embedder = embedder
        self._recorder = recorder
        self._now = now
        self._new_id = new_id
        # What no name means, as the embedder last said.
        self._default = ""

    async def create(self, wanted: Wanted) -> Vectors:
        """Vectors of texts, once what they used is recorded.

        Raises what the embedder refuses with, and RATE_LIMIT_EXCEEDED and INSUFFICIENT_QUOTA by the model's own limits.
        """
        await answered_by(model_of(await self._named(wanted.model)))
        vectors = await self._embedder.embed(wanted)
        if not wanted.model:
            self._default = vectors.model
        caller = current()
        receipt = Receipt(
            request_id=wanted.request_id or self._new_id(),
            version_digest=vectors.model_digest,
            requested_model=wanted.model or vectors.model,
            prompt_tokens_digest=_digest_of(wanted, vectors.model_digest),
            resolved_model=vectors.model,
            usage=Usage(prompt_tokens=sum(vectors.token_counts)),
            complete_time_seconds=self._now(),
        )
        await self._recorder.record(caller.tenant_id, caller.principal_id, caller.method, receipt, caller.project)
        return vectors

    async def _named(self, model: str) -> str:
        """The name of a model of which no name, or a digest, was given."""
        if not model and self._default:
            return self._default
        if model and not model.startswith(_DIGEST):
            return model
        return next((it.name for it in await self.models() if model in ("", it.digest)), model)

    async def models(self) -> list[EmbeddingModel]:
        """What may be named, the default first.  Raises PEER_UNAVAILABLE."""
        return await self._embedder.models()


def _digest_of(wanted: Wanted, model_digest: str) -> str:
    """Digest (sha256:…) of what was asked: the model, what for, and each text, or its tokens as little-endian int64."""
    shape = (model_digest, wanted.purpose.value, wanted.element.value, str(wanted.dimensions), str(len(wanted.texts)))
    parts = [part.encode() for part in (*shape, *wanted.texts)]
    parts += [struct.pack(f"<{len(ids)}q", *ids) for ids in wanted.tokens]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(struct.pack("<q", len(part)))
        digest.update(part)
    return _DIGEST + digest.hexdigest()
