"""One draw of examples: the gateway's method and plain nearest centroid over the same vectors.

The baseline takes the adapter whose examples' mean has the greatest cosine with the question; its threshold is fitted as
ours is, where its own held-out examples and the same outside questions are told apart best by the same costs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.auto.method import MEANT_COST, Vectors, fit

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class World:
    """Vectors of examples, of all questions and of what thresholds are fitted on; and which questions are whose.

    ``asked`` and each kind of ``nobody`` are rows of ``questions``; ``meant`` is the owner of each that is asked.
    """

    examples: Vectors
    owners: Sequence[int]
    questions: Vectors
    asked: NDArray[np.int64]
    meant: NDArray[np.int64]
    nobody: Mapping[str, NDArray[np.int64]]
    calibration: Vectors


@dataclass(frozen=True, slots=True)
class Choices:
    """What one method did: whether each question's adapter ranked first, and with what confidence above its threshold."""

    ranked_first: Flags
    confidence: Vectors
    nobody: Mapping[str, Vectors]

    @property
    def right(self) -> Flags:
        """Whether each question went to its adapter."""
        return np.asarray(self.ranked_first & (self.confidence >= 0))


def ours(world: World) -> Choices:
    """The gateway's."""
    fitted = fit(world.examples, world.owners, world.calibration)
    found = [fitted.decide(vector) for vector in world.questions]
    first = np.array([decision.ranked[0][0] for decision in found])
    return _choices(world, first, np.array([decision.confidence - decision.threshold for decision in found]))


def nearest_centroid(world: World) -> Choices:
    """The baseline's."""
    owners = np.asarray(world.owners)
    owned = np.eye(int(owners.max()) + 1)[owners]
    sums = owned.T @ world.examples
    means = _unit(sums)
    # An example is held out of its own mean.
    own = np.einsum("nd,nd->n", _unit(sums[owners] - world.examples), world.examples)
    others = np.where(owned > 0, -1.0, world.examples @ means.T).max(1)
    threshold = _told_apart(np.maximum(own, others), (world.calibration @ means.T).max(1))
    scores = world.questions @ means.T
    return _choices(world, scores.argmax(1), scores.max(1) - threshold)


def _choices(world: World, first: NDArray[np.int64], confidence: Vectors) -> Choices:
    return Choices(
        first[world.asked] == world.meant,
        confidence[world.asked],
        {kind: confidence[at] for kind, at in world.nobody.items()},
    )


def _unit(vectors: Vectors) -> Vectors:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12))


def _told_apart(meant: Vectors, not_meant: Vectors) -> float:
    candidates = np.unique(np.concatenate([meant, not_meant]))
    gains = [MEANT_COST * (meant >= at).mean() - (1 - MEANT_COST) * (not_meant >= at).mean() for at in candidates]
    return float(candidates[int(np.argmax(gains))])
