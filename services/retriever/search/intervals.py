"""Means, and how sure they are."""

import math
from collections.abc import Sequence

import numpy as np

_DRAWS = 5000


def mean(values: Sequence[float]) -> float:
    """The mean of at least one value."""
    return math.fsum(values) / len(values)


def paired(scores: Sequence[float], others: Sequence[float]) -> tuple[float, float, float]:
    """The mean of the differences and its 95 % interval by the paired bootstrap, the same for the same scores."""
    differences = np.asarray(scores) - np.asarray(others)
    draws = np.random.default_rng(0).integers(len(differences), size=(_DRAWS, len(differences)))
    low, high = np.quantile(differences[draws].mean(axis=1), (0.025, 0.975))
    return float(differences.mean()), float(low), float(high)
