"""The weight of vectors in fusion, fitted on questions whose answers are known.

Invariant: what is fitted is never below its better part on the set that it was fitted on:
a hybrid that loses to one of its own lists is worth nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from services.retriever.search import fusion
from services.retriever.search.question import Mode

_CUT = 10
_STEPS = 20


@dataclass(frozen=True, slots=True)
class Example:
    """The two lists of one question, as ``arms`` gives them (``near`` filled up), and the chunks that answer it."""

    near: Mapping[int, float]
    sparse: Mapping[int, float]
    gold: frozenset[int]


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
        _mean([_ndcg(fusion.by_score(it.near, it.sparse, weight), it.gold) for it in examples]),
        _mean([_ndcg(it.near, it.gold) for it in examples]),
        _mean([_ndcg(it.sparse, it.gold) for it in examples]),
    )


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


def _ndcg(scores: Mapping[int, float], gold: frozenset[int]) -> float:
    ranked = fusion.ordered(scores)[:_CUT]
    gained = math.fsum(1 / math.log2(place + 2) for place, hit in enumerate(ranked) if hit.chunk in gold)
    ideal = math.fsum(1 / math.log2(place + 2) for place in range(min(len(gold), _CUT)))
    return gained / ideal if ideal else 0.0


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
