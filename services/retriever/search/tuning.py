"""The weight of vectors in fusion, fitted on questions whose answers are known.

Invariant: what is fitted is never below its better part on the set that it was fitted on:
a hybrid that loses to one of its own lists is worth nothing.
"""

import math
from collections.abc import Collection as AnyOf
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from services.retriever.search import fusion
from services.retriever.search.intervals import mean
from services.retriever.search.question import Mode

CUT = 10
_STEPS = 20


@dataclass(frozen=True, slots=True)
class Example:
    """The two lists of one question, as ``arms`` gives them (``near`` filled up), and the chunks that answer it.

    With ``documents``, the document of each chunk, a document stands where its best chunk does and ``gold`` are documents.
    """

    near: Mapping[int, float]
    sparse: Mapping[int, float]
    gold: frozenset[int] | frozenset[str]
    documents: Mapping[int, str] | None = None


@dataclass(frozen=True, slots=True)
class Fit:
    """A way of searching, its weight of vectors where it is hybrid, and the mean nDCG@10 of it and of each part."""

    mode: Mode
    weight: float
    found: float
    dense: float
    sparse: float

    @property
    def sound(self) -> bool:
        """Whether it is at least as good as the better part."""
        return self.found >= max(self.dense, self.sparse)


def measured(examples: Sequence[Example], weight: float) -> Fit:
    """How the fusion with a weight does on a set.  Raises ValueError for an empty one."""
    if not examples:
        raise ValueError("there is nothing to measure on")
    return Fit(
        Mode.HYBRID,
        weight,
        *(mean(scores(examples, mode, weight)) for mode in (Mode.HYBRID, Mode.DENSE, Mode.SPARSE)),
    )


def scores(examples: Sequence[Example], mode: Mode, weight: float) -> list[float]:
    """nDCG@10 of each question."""
    return [ndcg(_ranked(it, mode, weight), it.gold) for it in examples]


def fitted(examples: Sequence[Example], default: float) -> Fit:
    """The best weight of twenty steps and of ``default``; of equals the one nearest to the default.

    Where a part alone is better than all of them, that part.  Raises ValueError as :func:`measured`.
    """
    weights = [default, *(step / _STEPS for step in range(_STEPS + 1))]
    tried = [measured(examples, weight) for weight in weights]
    best = max(tried, key=lambda fit: (round(fit.found, 9), -abs(fit.weight - default)))
    if best.sound:
        return best
    mode, found = (Mode.DENSE, best.dense) if best.dense >= best.sparse else (Mode.SPARSE, best.sparse)
    return replace(best, mode=mode, found=found)


def _ranked(example: Example, mode: Mode, weight: float) -> list[int] | list[str]:
    found = {
        Mode.HYBRID: lambda: fusion.by_score(example.near, example.sparse, weight),
        Mode.DENSE: lambda: dict(example.near),
        Mode.SPARSE: lambda: dict(example.sparse),
    }[mode]()
    chunks = [hit.chunk for hit in fusion.ordered(found)]
    if example.documents is None:
        return chunks
    return list(dict.fromkeys(example.documents[chunk] for chunk in chunks if chunk in example.documents))


def ndcg(ranked: Sequence[object], gold: AnyOf[object]) -> float:
    """nDCG@10 of things in order, each once, of which ``gold`` are right."""
    gained = math.fsum(1 / math.log2(place + 2) for place, it in enumerate(ranked[:CUT]) if it in gold)
    ideal = math.fsum(1 / math.log2(place + 2) for place in range(min(len(gold), CUT)))
    return gained / ideal if ideal else 0.0
