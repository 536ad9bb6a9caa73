"""The fused lists of several queries become one order.

Invariant: the order depends on scores, places and weights alone: not on which list comes
first.
"""

from collections.abc import Mapping, Sequence

from services.retriever.search import fusion
from services.retriever.search.question import Fusion


def shares(fused: Sequence[Mapping[int, float]], weights: Sequence[float], way: Fusion) -> list[Mapping[int, float]]:
    """What each list adds to a chunk's score, in the order of the lists.

    Lists of weight 1 are the queries'; others were expanded from one.  Several queries, said by who knows why, count by
    rank; what is expanded from a single one adds to its scores, so that a list of which little is near adds little.
    """
    if len(fused) == 1:
        return list(fused)
    if way is Fusion.SCORE and sum(weight == 1.0 for weight in weights) == 1:
        return [_spread(scores, weight) for scores, weight in zip(fused, weights, strict=True)]
    return [_by_rank(scores, weight) for scores, weight in zip(fused, weights, strict=True)]


def _by_rank(scores: Mapping[int, float], weight: float) -> dict[int, float]:
    return {chunk: weight * score for chunk, score in fusion.by_rank([scores]).items()}


def _spread(scores: Mapping[int, float], weight: float) -> dict[int, float]:
    """Over [0, weight]: the last of a list counts as what the list does not hold."""
    least, greatest = min(scores.values(), default=0.0), max(scores.values(), default=0.0)
    if greatest <= least:
        return dict.fromkeys(scores, weight)
    return {chunk: weight * (score - least) / (greatest - least) for chunk, score in scores.items()}
