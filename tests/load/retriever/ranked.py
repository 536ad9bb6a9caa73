"""Figures of ranked lists: nDCG at ten, and how sure a difference of two ways is."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

_CUT = 10
_RESAMPLES = 10_000


def ndcg(scores: Mapping[str, float], gold: frozenset[str]) -> float:
    """nDCG@10; documents of equal score count as the mean over their orders."""
    ranked = sorted(scores.items(), key=lambda item: -item[1])
    gained, place = 0.0, 0
    for _, tied in groupby(ranked, key=lambda item: item[1]):
        names = [name for name, _ in tied]
        share = sum(name in gold for name in names) / len(names)
        gained += share * sum(1 / math.log2(at + 2) for at in range(place, min(place + len(names), _CUT)))
        place += len(names)
        if place >= _CUT:
            break
    ideal = sum(1 / math.log2(at + 2) for at in range(min(len(gold), _CUT)))
    return gained / ideal if ideal else 0.0


@dataclass(frozen=True, slots=True)
class Difference:
    """The mean of a paired difference and its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def difference(ours: Sequence[float], theirs: Sequence[float]) -> Difference:
    """Ours minus theirs over the same questions, by paired bootstrap with 10,000 resamples."""
    gaps = np.array(ours) - np.array(theirs)
    chance = np.random.default_rng(7)
    means = np.array([gaps[chance.integers(0, len(gaps), len(gaps))].mean() for _ in range(_RESAMPLES)])
    low, high = np.quantile(means, [0.025, 0.975])
    return Difference(float(gaps.mean()), float(low), float(high))
