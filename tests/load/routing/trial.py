"""One draw of examples: the gateway's method and plain nearest centroid over the same vectors.

The baseline takes the adapter whose examples' mean has the greatest cosine with the question; its threshold is fitted as
ours is, where its own held-out examples and the same outside questions are told apart best.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.auto.method import Vectors, fit

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class World:
    """Vectors: examples and their owners, questions and theirs, questions of nobody, and what thresholds are fitted on."""

    examples: Vectors
    owners: Sequence[int]
    asked: Vectors
    meant: NDArray[np.int64]
    nobody: Mapping[str, Vectors]
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

    def chosen(vectors: Vectors) -> tuple[Vectors, Vectors]:
        found = [fitted.decide(vector) for vector in vectors]
        first = np.array([decision.ranked[0][0] for decision in found])
        return first, np.array([decision.confidence - decision.threshold for decision in found])

    first, confidence = chosen(world.asked)
    return Choices(first == world.meant, confidence, {name: chosen(them)[1] for name, them in world.nobody.items()})


def nearest_centroid(world: World) -> Choices:
    """The baseline's."""
    owners = np.asarray(world.owners)
    owned = np.eye(int(owners.max()) + 1)[owners]
    sums = owned.T @ world.examples
    means = _unit(sums)
    # An example is held out of its own mean.
    own = np.einsum("nd,nd->n", _unit(sums[owners] - world.examples), world.examples)
    others = np.where(owned > 0, -1.0, world.examples @ means.T).max(1)
    threshold = _youden(np.maximum(own, others), (world.calibration @ means.T).max(1))
    scores = world.asked @ means.T
    return Choices(
        scores.argmax(1) == world.meant,
        scores.max(1) - threshold,
        {name: (them @ means.T).max(1) - threshold for name, them in world.nobody.items()},
    )


def _unit(vectors: Vectors) -> Vectors:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12))


def _youden(meant: Vectors, not_meant: Vectors) -> float:
    candidates = np.unique(np.concatenate([meant, not_meant]))
    gains = [(meant >= at).mean() - (not_meant >= at).mean() for at in candidates]
    return float(candidates[int(np.argmax(gains))])


def auroc(meant: Vectors, not_meant: Vectors) -> float:
    """The share of pairs in which the question that is meant is the surer one; ties count half."""
    ordered = np.sort(not_meant)
    below = np.searchsorted(ordered, meant, "left")
    equal = np.searchsorted(ordered, meant, "right") - below
    return float((below + equal / 2).mean() / len(not_meant))
