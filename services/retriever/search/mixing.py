"""The scores of two judges as one: a reranker's beside those that passages were found by."""

from collections.abc import Sequence

# What a reranker's scores count beside the fused ones where a deployment does not say otherwise.
WEIGHT = 0.5


def mixed(new: Sequence[float], old: Sequence[float], weight: float) -> list[float]:
    """Both scores of the same passages, at least one, each spread over [0, 1] first; ``weight`` is that of the new."""
    pairs = zip(_spread(new), _spread(old), strict=True)
    return [weight * one + (1 - weight) * other for one, other in pairs]


def _spread(scores: Sequence[float]) -> list[float]:
    least, greatest = min(scores), max(scores)
    return [(score - least) / (greatest - least) if greatest > least else 1.0 for score in scores]
