"""The best of an order looked at once more, as far as time allows.

Invariant: a search never fails, and is never late, because its reranking is: without an
answer in time, or without the model that a collection has stored, the fused order stands,
and the outcome says so.  Only a model that the question itself names has to be there.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from services.chassis.context import current_or_none
from services.chassis.errors import Code, Failure
from services.retriever.ingestion.embeddings import Embeddings
from services.retriever.search import mixing
from services.retriever.search.question import Ranked, Reranking

# Left to look once more, read the hits and answer.
_RESERVE_SECONDS = 0.25
_LEAST_SECONDS = 0.02
_GIVEN_UP = {Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED, Code.CANCELLED}
# What the embedder says of a model that it does not have, or cannot load.
_NO_MODEL = {Code.NOT_FOUND, Code.FAILED_PRECONDITION, Code.INVALID_ARGUMENT}


@dataclass(frozen=True, slots=True)
class Scores:
    """What the reranker said of texts, how much it counts beside the fused score (0 to 1), and what became of it."""

    outcome: Reranking
    weight: float = 0.0
    by_text: Mapping[str, float] = field(default_factory=dict)

    def applied(self, order: Sequence[Ranked], texts: Mapping[int, str]) -> list[Ranked]:
        """The order with the places whose texts have a score first, by both scores.

        By text: whoever changed a document meanwhile made other chunks, most with the same text.
        """
        head = [replace(it, rerank=self.by_text[texts[it.chunk]]) for it in order if self._knows(it, texts)]
        if not head:
            return list(order)
        mixed = dict(zip((it.chunk for it in head), self.mixed(head), strict=True))
        head.sort(key=lambda it: (-mixed[it.chunk], it.chunk))
        return [*head, *(it for it in order if it.chunk not in mixed)]

    def _knows(self, place: Ranked, texts: Mapping[int, str]) -> bool:
        return texts.get(place.chunk) in self.by_text

    def mixed(self, head: Sequence[Ranked]) -> list[float]:
        """Both scores of reranked places as one, each spread over [0, 1] first."""
        return mixing.mixed([it.rerank or 0.0 for it in head], [it.score for it in head], self.weight)


@dataclass(frozen=True, slots=True)
class Reranker:
    """Asks the embedder.  ``weight`` as in :class:`Scores`."""

    embeddings: Embeddings
    weight: float
    most_seconds: float

    async def scores(self, query: str, texts: Sequence[str], model: str = "", *, needed: bool = False) -> Scores:
        """What the reranker (of this name or digest, else the default) says of these texts, if it does in time.

        Raises EMBEDDING_MODEL_NOT_FOUND, or what keeps the model from being had, only where it is ``needed``.
        """
        seconds = self._seconds()
        if not texts:
            return _without("nothing was found")
        if seconds < _LEAST_SECONDS:
            return _without("no time was left for it before the deadline")
        try:
            async with asyncio.timeout(seconds):
                found = await self.embeddings.rerank(query, texts, model)
        except TimeoutError:
            return _without(f"it took more than the {seconds:.2f} s that were left for it")
        except Failure as failure:
            spared = model and not needed and failure.code in _NO_MODEL
            if failure.code not in _GIVEN_UP and not spared:
                raise
            return _without(failure.sentence)
        return Scores(Reranking(True, "", len(texts)), self.weight, dict(zip(texts, found, strict=True)))

    def _seconds(self) -> float:
        asking = current_or_none()
        left = asking.remaining_seconds() if asking is not None else None
        return self.most_seconds if left is None else min(self.most_seconds, left - _RESERVE_SECONDS)


def _without(reason: str) -> Scores:
    return Scores(Reranking(False, reason, 0))
