"""Which model answers a question put to ``auto``: by meaning, and the base where none is meant.

Invariant: the choice follows from the question and from what the tenant's models say of
themselves now.  What was fitted is kept by the registry's etag and the embedder's digest:
a fit of an older list, of other vectors or of another tenant is never used.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gateway.auto.method import Decision, Fitted, Vectors, fit
from gateway.auto.outside import OUTSIDE
from gateway.names import BASE
from services.chassis.context import current

# About 2 MB each, where vectors have 384 dimensions.
_KEPT_TENANTS = 32
# An embedder reads no further, and what a question is about stands in its beginning.
_CHARACTERS = 4000
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model of the tenant's by what it is for."""

    model: str
    description: str
    examples: tuple[str, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        """What a question is compared with: the examples, then the description."""
        return (*self.examples, self.description) if self.description else self.examples


@dataclass(frozen=True, slots=True)
class Candidates:
    """All of a tenant's, under an etag that changes with any of them."""

    etag: str
    items: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Meanings:
    """Vectors of texts, [texts, dimensions] of length 1, and the digest of the model that they are of."""

    vectors: Vectors
    digest: str


class Catalogue(Protocol):
    """The registry as this module uses it.  Raises Failure; an unreachable one names itself."""

    async def candidates(self, etag: str) -> Candidates | None:
        """What the caller's tenant has; None when ``etag`` is that of it."""


class Embedder(Protocol):
    """The embedder as this module uses it.  Raises Failure; an unreachable one names itself."""

    async def embed(self, questions: Sequence[str]) -> Meanings:
        """The meaning of each."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A candidate and how near its meaning is to the question's, -1 to 1."""

    model: str
    score: float


@dataclass(frozen=True, slots=True)
class Choice:
    """What ``auto`` means for a question: ``model`` is a candidate's, or the base after abstaining.

    ``candidates`` are the nearest, best first.  ``confidence`` that the question is meant for any of them at all has to
    reach ``threshold``; both are 0 where there was nothing to choose from.
    """

    model: str
    reason: str
    candidates: tuple[Scored, ...] = ()
    confidence: float = 0.0
    threshold: float = 0.0
    ambiguous: bool = False

    @property
    def abstained(self) -> bool:
        """Whether the base answers because no candidate is meant."""
        return self.model == BASE


@dataclass(slots=True)
class _Kept:
    """What is known of one tenant; one asker at a time fits anew."""

    busy: asyncio.Lock = field(default_factory=asyncio.Lock)
    etag: str = ""
    digest: str = ""
    models: tuple[str, ...] = ()
    fitted: Fitted | None = None


class Chooser:
    """Chooses, and keeps what it fitted for the tenants that asked last."""

    def __init__(
        self,
        catalogue: Catalogue,
        embedder: Embedder,
        blocking: Callable[..., Awaitable[Fitted]],
    ) -> None:
        self._catalogue = catalogue
        self._embedder = embedder
        self._blocking = blocking
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    async def any(self) -> bool:
        """Whether the caller's tenant has anything to choose from."""
        kept = self._of_tenant(current().tenant_id)
        found = await self._catalogue.candidates(kept.etag)
        return bool(kept.models) if found is None else bool(found.items)

    async def choose(self, question: str) -> Choice:
        """The model for a question of the caller's tenant.  Raises PEER_UNAVAILABLE naming registry or embedder."""
        asked = question.strip()[:_CHARACTERS]
        if not asked:
            return Choice(BASE, "There is no question to go by: the base answers.")
        meaning = await self._embedder.embed([asked])
        kept = await self._fitted(self._of_tenant(current().tenant_id), meaning.digest)
        if kept.fitted is None:
            return Choice(
                BASE,
                "No model that serves has a description or examples: the base answers. Give some with "
                "`trivium models describe`.",
            )
        return _told(kept.fitted.decide(meaning.vectors[0]), kept.models)

    def _of_tenant(self, tenant: str) -> _Kept:
        kept = self._kept.pop(tenant, None) or _Kept()
        self._kept[tenant] = kept
        while len(self._kept) > _KEPT_TENANTS:
            self._kept.popitem(last=False)
        return kept

    async def _fitted(self, kept: _Kept, digest: str) -> _Kept:
        async with kept.busy:
            found = await self._catalogue.candidates(kept.etag if kept.digest == digest else "")
            if found is None:
                return kept
            usable = [item for item in found.items if item.texts]
            fitted, seen = None, digest
            if usable:
                meanings = await self._embedder.embed([*OUTSIDE, *(text for item in usable for text in item.texts)])
                seen = meanings.digest
                owners = [owner for owner, item in enumerate(usable) for _ in item.texts]
                outside, examples = meanings.vectors[: len(OUTSIDE)], meanings.vectors[len(OUTSIDE) :]
                fitted = await self._blocking(fit, examples, owners, outside)
            # Together, after the last await: whoever reads meanwhile reads the old or the new.
            kept.models, kept.fitted = tuple(item.model for item in usable), fitted
            kept.etag, kept.digest = found.etag, seen
            return kept


def _told(decision: Decision, models: Sequence[str]) -> Choice:
    scored = tuple(Scored(models[owner], score) for owner, score in decision.ranked[:_SHOWN])
    best = scored[0]
    sure = f"confidence {decision.confidence:.2f}, threshold {decision.threshold:.2f}"
    if decision.confidence < decision.threshold:
        reason = f"The question is not like what any model is for ({sure}; nearest {best.model}): the base answers."
        return Choice(BASE, reason, scored, decision.confidence, decision.threshold)
    reason = f"The question is most like what {best.model} is for ({sure})."
    if decision.ambiguous:
        reason += f" {scored[1].model} is almost as near: examples that tell the two apart would help."
    if not decision.calibrated:
        reason += " The threshold is a default: two examples a model or more would fit one."
    return Choice(best.model, reason, scored, decision.confidence, decision.threshold, decision.ambiguous)
