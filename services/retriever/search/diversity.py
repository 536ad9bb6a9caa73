"""Maximal marginal relevance (Carbonell and Goldstein, 1998).

Invariant: at lambda 1 the order is that of relevance; the first is always the most
relevant, and ties go to the earlier one.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from services.retriever.index.index import Vector


def diversified(
    order: Sequence[int], relevance: Mapping[int, float], vectors: Mapping[int, Vector], balance: float, most: int
) -> list[int]:
    """The first ``most`` chunks, each the one with the greatest ``balance`` x relevance - (1 - balance) x cosine.

    The cosine is the greatest with any chosen before; vectors have length 1; a chunk
    without a vector is unlike all others.  ``order`` is by relevance, best first.
    """
    if not order:
        return []
    width = max((len(vector) for vector in vectors.values()), default=1)
    rows = np.stack([vectors.get(chunk, np.zeros(width, np.float32)) for chunk in order])
    scores = np.array([relevance[chunk] for chunk in order], dtype=np.float64)
    likeness = np.zeros(len(order))
    free = np.ones(len(order), dtype=bool)
    chosen: list[int] = []
    while len(chosen) < min(most, len(order)):
        gains = np.where(free, balance * scores - (1 - balance) * likeness, -np.inf)
        # The first is the most relevant, also where difference alone counts.
        best = int(np.argmax(gains)) if chosen else 0
        chosen.append(best)
        free[best] = False
        likeness = np.maximum(likeness, rows @ rows[best]) if len(chosen) > 1 else rows @ rows[best]
    return [order[at] for at in chosen]
