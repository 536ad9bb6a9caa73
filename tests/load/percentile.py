"""Percentiles as every benchmark tells them."""

import math
from collections.abc import Sequence


def percentile(values: Sequence[float], part: float) -> float:
    """The least of the values that this part of all does not exceed (nearest rank); ``part`` from 0 to 1."""
    return sorted(values)[max(0, math.ceil(part * len(values) - 1e-9) - 1)]
