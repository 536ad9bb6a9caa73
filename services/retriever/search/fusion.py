"""Two lists become one, by scores or by ranks.

Invariant: the order depends on scores and places alone, never on the order in which
a store happened to return ties.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

RANK_CONSTANT = 60
# At right angles: nothing in common.  From -1, which no two texts reach, every cosine would come out near 1 and
# keywords alone would decide: on Cranfield nDCG@10 at weight 0.55 is 0.404 from -1 and 0.429 from 0 (vectors alone
# 0.408, keywords alone 0.358), and from 0 the weight may be anything from 0.5 to 0.85.
_LEAST_DENSE = 0.0
# BM25 here can be no less.
_LEAST_SPARSE = 0.0


@dataclass(frozen=True, slots=True)
class Scored:
    """A chunk and its score in one list; higher is better."""

    chunk: int
    score: float


def ordered(scores: Mapping[int, float]) -> list[Scored]:
    """Best first; ties by chunk, which is the same in every index of the same documents."""
    found = (Scored(chunk, score) for chunk, score in scores.items())
    return sorted(found, key=lambda hit: (-hit.score, hit.chunk))


def by_score(dense: Mapping[int, float], sparse: Mapping[int, float], dense_weight: float) -> dict[int, float]:
    """Convex combination of scores, each brought to [0, 1] by the least that counts and the greatest seen.

    TM2C2 of Bruch, Gai and Ingber (2023, arXiv 2210.11934).  A chunk that a list does not
    hold counts as that score's least; give ``dense`` complete, where it can be.
    """
    return summed(score_parts(dense, sparse, dense_weight))


def score_parts(
    dense: Mapping[int, float], sparse: Mapping[int, float], dense_weight: float
) -> tuple[dict[int, float], dict[int, float]]:
    """What each list adds to a chunk's score in :func:`by_score`."""
    near = _normalised(dense, _LEAST_DENSE)
    matching = _normalised(sparse, _LEAST_SPARSE)
    return (
        {chunk: dense_weight * score for chunk, score in near.items()},
        {chunk: (1 - dense_weight) * score for chunk, score in matching.items()},
    )


def summed(parts: Iterable[Mapping[int, float]]) -> dict[int, float]:
    """By chunk the sum over all lists, the same to the bit whatever the lists' order."""
    terms: dict[int, list[float]] = {}
    for scores in parts:
        for chunk, score in scores.items():
            terms.setdefault(chunk, []).append(score)
    return {chunk: math.fsum(scores) for chunk, scores in terms.items()}


def by_rank(lists: Iterable[Sequence[int]]) -> dict[int, float]:
    """Reciprocal ranks (Cormack, Clarke and Büttcher, 2009) with k = 60."""
    return summed(
        {chunk: 1 / (RANK_CONSTANT + place) for place, chunk in enumerate(ranked, start=1)} for ranked in lists
    )


def _normalised(scores: Mapping[int, float], least: float) -> dict[int, float]:
    greatest = max(scores.values(), default=least)
    if greatest <= least:
        return dict.fromkeys(scores, 0.0)
    return {chunk: max(0.0, score - least) / (greatest - least) for chunk, score in scores.items()}
