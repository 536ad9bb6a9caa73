"""Two lists become one, by scores or by ranks.

Invariant: scores depend on scores alone, never on the order of ties: neither on that in which a store happened to
return them nor on the numbers of chunks, which a collection's name has a part in.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol, TypeVar

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


class _Hit(Protocol):
    @property
    def score(self) -> float: ...


_HitT = TypeVar("_HitT", bound=_Hit)


def ordered(scores: Mapping[int, float]) -> list[Scored]:
    """Best first; ties by chunk, which is the same in every index of a collection.

    In two collections of the same documents it is not: what scores are made of must not depend on the order of ties.
    """
    found = (Scored(chunk, score) for chunk, score in scores.items())
    return sorted(found, key=lambda hit: (-hit.score, hit.chunk))


def leading(ranked: Sequence[_HitT], count: int, most: int) -> list[list[_HitT]]:
    """The first ``count``, those that tie with the last of them as well: a list for each score, best first.

    Whole ties, so that it does not matter in which order they stand; one that would make more than ``most`` is left out.
    """
    found: list[list[_HitT]] = []
    taken = 0
    for _, tied in groupby(ranked, key=lambda hit: hit.score):
        hits = list(tied)
        if taken >= count or taken + len(hits) > most:
            break
        found.append(hits)
        taken += len(hits)
    return found


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


def by_rank(lists: Iterable[Mapping[int, float]]) -> dict[int, float]:
    """Reciprocal ranks (Cormack, Clarke and Büttcher, 2009) with k = 60; what ties has the same rank."""
    return summed(_reciprocal_ranks(scores) for scores in lists)


def _reciprocal_ranks(scores: Mapping[int, float]) -> dict[int, float]:
    rank: dict[float, int] = {}
    for place, score in enumerate(sorted(scores.values(), reverse=True), start=1):
        rank.setdefault(score, place)
    return {chunk: 1 / (RANK_CONSTANT + rank[score]) for chunk, score in scores.items()}


def _normalised(scores: Mapping[int, float], least: float) -> dict[int, float]:
    greatest = max(scores.values(), default=least)
    if greatest <= least:
        return dict.fromkeys(scores, 0.0)
    return {chunk: max(0.0, score - least) / (greatest - least) for chunk, score in scores.items()}
