"""The exact method by which ``auto`` chooses, over vectors alone.

Ranking.  Vectors of a sentence encoder differ inside a model's examples (wording, length,
courtesy) along directions that say nothing of what is asked.  They are whitened by the pooled
covariance of the examples around their own model's mean, shrunk towards its average variance
(within-class covariance normalisation: Hatch, Kajarekar and Stolcke, 2006; the shrinkage's
form is Ledoit and Wolf's, 2004), and a model's score is the cosine of the question with its
mean there.  How much is shrunk is told by the examples, each fold of them held out: as much as ranks
them no worse than the best amount by more than one standard error of the difference (Breiman's rule,
1984), because few examples cannot tell a small difference from none.

Abstaining.  Whether a question is meant for any model is a logistic regression over two numbers:
the cosine with the nearest mean in the whitened space and that in the encoder's own.  The first
tells near questions apart, the second far ones; neither counts against.  It is fitted on held-out
examples (meant) against questions that no tenant means (:mod:`gateway.auto.outside`) and against examples whose own model is
left out (not meant); the threshold is where the two sides are told apart best (Youden's J, by costs: a
question that is left to the base although a model is for it costs twice what the opposite does, for
then the tenant's model surely does not answer).

Deterministic: the same vectors give the same fit, whoever computes it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float64]
Owners = NDArray[np.int64]

SHRINKAGES = (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
_FOLDS = 5
# What wrongly left to the base costs, of both mistakes together.
MEANT_COST = 2 / 3
# Of the questions that are not meant, how much weight those have that are meant for a model which is left out.  They are
# so like those that are meant that more of it buys few of them for many that a model is for.
_LEFT_OUT_WEIGHT = 0.05
_RIDGE = 1.0
_NEWTON_STEPS = 30
# Without held-out examples, or where they are no more like their own than others are: a cosine of 0.5 in either space is
# a confidence of one half.
_DEFAULT_COEFFICIENTS = (-5.0, 5.0, 5.0)
_DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True, slots=True)
class Decision:
    """Owners by score, best first, and how sure it is that the question is meant for any of them."""

    ranked: tuple[tuple[int, float], ...]
    confidence: float
    threshold: float
    ambiguous: bool
    calibrated: bool


@dataclass(frozen=True, slots=True)
class _Space:
    """Means of the owners, [owners, dimensions] of length 1, in the whitened space and in the encoder's own."""

    centre: Vectors
    whitening: Vectors
    means: Vectors
    plain_means: Vectors

    def scores(self, vectors: Vectors) -> tuple[Vectors, Vectors]:
        """Cosines with every owner's mean, [vectors, owners], whitened and plain."""
        return _unit((vectors - self.centre) @ self.whitening) @ self.means.T, vectors @ self.plain_means.T


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a tenant's examples came to.  ``shrinkage`` and ``held_out_accuracy`` are for those who measure."""

    space: _Space
    coefficients: tuple[float, float, float]
    threshold: float
    ambiguous_margin: float
    calibrated: bool
    shrinkage: float
    held_out_accuracy: float

    def decide(self, vector: Vectors) -> Decision:
        """Where a question goes.  ``vector`` [dimensions], of length 1."""
        whitened, plain = self.space.scores(vector[None])
        order = np.argsort(-whitened[0], kind="stable")
        margin = whitened[0][order[0]] - whitened[0][order[1]] if len(order) > 1 else np.inf
        return Decision(
            ranked=tuple((int(owner), float(whitened[0][owner])) for owner in order),
            confidence=float(_confidence(_features(whitened, plain), self.coefficients)[0]),
            threshold=self.threshold,
            ambiguous=bool(margin <= self.ambiguous_margin),
            calibrated=self.calibrated,
        )


def fit(examples: Vectors, owners: Sequence[int], outside: Vectors) -> Fitted:
    """Fit to ``examples`` [examples, dimensions] and the owner of each, against ``outside`` [questions, dimensions].

    Owners count from 0 without a gap; every vector has length 1.
    """
    owned = np.asarray(owners, np.int64)
    centre = (examples.mean(0) + outside.mean(0)) / 2
    folds = _folds(owned)
    held = folds >= 0
    if not held.any():
        space = _spread(examples, owned, centre).space(1.0)
        return Fitted(space, _DEFAULT_COEFFICIENTS, _DEFAULT_THRESHOLD, -1.0, False, 1.0, 0.0)
    trials = _held_out(examples, owned, folds, centre)
    right = np.stack([whitened.argmax(1) == owned[held] for whitened, _ in trials])
    best = _most_shrunk(right)
    space = _spread(examples, owned, centre).space(SHRINKAGES[best])
    coefficients, threshold = _calibrated(*trials[best], owned[held], space.scores(outside))
    return Fitted(
        space,
        coefficients,
        threshold,
        _ambiguous_margin(trials[best][0], owned[held]),
        calibrated=coefficients is not _DEFAULT_COEFFICIENTS,
        shrinkage=SHRINKAGES[best],
        held_out_accuracy=float(right[best].mean()),
    )


def _unit(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12))


def _sums(vectors: Vectors, owners: Owners) -> Vectors:
    return np.asarray(np.eye(int(owners.max()) + 1)[owners].T @ vectors)


def _folds(owners: Owners) -> Owners:
    """The fold of each example: those of one owner by turns; -1 for an owner's only one, which is never held out."""
    folds = np.zeros(len(owners), np.int64)
    for owner in range(int(owners.max()) + 1):
        own = np.flatnonzero(owners == owner)
        folds[own] = np.arange(len(own)) % _FOLDS if len(own) > 1 else -1
    return folds


@dataclass(frozen=True, slots=True)
class _Spread:
    """How examples lie around their owners' means: from one decomposition follows the space of any shrinkage."""

    examples: Vectors
    owners: Owners
    centre: Vectors
    variances: Vectors
    axes: Vectors

    def space(self, shrinkage: float) -> _Space:
        average = float(self.variances.mean())
        whitening = np.eye(len(self.variances))
        if average > 0 and shrinkage < 1.0:
            # Over the average: a space that is not whitened at all stays what it is.
            shrunk = (1 - shrinkage) * self.variances / average + shrinkage
            whitening = self.axes / np.sqrt(np.maximum(shrunk, 1e-12))
        means = _unit(_sums(_unit((self.examples - self.centre) @ whitening), self.owners))
        return _Space(self.centre, whitening, means, _unit(_sums(self.examples, self.owners)))


def _spread(examples: Vectors, owners: Owners, centre: Vectors) -> _Spread:
    sums = _sums(examples, owners)
    apart = examples - (sums / np.bincount(owners)[:, None])[owners]
    freedom = max(1, len(examples) - len(sums))
    variances, axes = np.linalg.eigh(apart.T @ apart / freedom)
    return _Spread(examples, owners, centre, np.maximum(variances, 0.0), axes)


def _held_out(examples: Vectors, owners: Owners, folds: Owners, centre: Vectors) -> list[tuple[Vectors, Vectors]]:
    """For each shrinkage the scores of every example that has a fold, in a space that was made without its fold."""
    shape = len(owners), int(owners.max()) + 1
    trials = [(np.empty(shape), np.empty(shape)) for _ in SHRINKAGES]
    for fold in range(int(folds.max()) + 1):
        out = folds == fold
        spread = _spread(examples[~out], owners[~out], centre)
        for (whitened, plain), shrinkage in zip(trials, SHRINKAGES, strict=True):
            whitened[out], plain[out] = spread.space(shrinkage).scores(examples[out])
    held = folds >= 0
    return [(whitened[held], plain[held]) for whitened, plain in trials]


def _most_shrunk(right: NDArray[np.bool_]) -> int:
    """The last row of ``right`` [shrinkages, examples] that is no worse than the best by over one standard error."""
    best = int(right.mean(1).argmax())
    lost = right[best].astype(float) - right
    errors = lost.std(1) / np.sqrt(right.shape[1])
    return int(np.flatnonzero(lost.mean(1) <= errors)[-1])


def _features(whitened: Vectors, plain: Vectors) -> Vectors:
    """What confidence goes by, [questions, 3]: one, and the cosine with the nearest mean in either space."""
    return np.stack([np.ones(len(whitened)), whitened.max(1), plain.max(1)], axis=1)


def _confidence(features: Vectors, coefficients: Sequence[float] | Vectors) -> Vectors:
    logits = np.clip(features @ np.asarray(coefficients), -30, 30)
    return np.asarray(1 / (1 + np.exp(-logits)))


def _calibrated(
    whitened: Vectors, plain: Vectors, owners: Owners, outside: tuple[Vectors, Vectors]
) -> tuple[tuple[float, float, float], float]:
    """The regression's coefficients and the threshold."""
    groups = [(_features(whitened, plain), 1.0, 1.0), (_features(*outside), 0.0, 1.0)]
    if whitened.shape[1] > 1:
        own = np.arange(len(owners)), owners
        left_out = whitened.copy(), plain.copy()
        for scores in left_out:
            scores[own] = -1.0
        groups[1] = (groups[1][0], 0.0, 1 - _LEFT_OUT_WEIGHT)
        groups.append((_features(*left_out), 0.0, _LEFT_OUT_WEIGHT))
    features = np.concatenate([rows for rows, _, _ in groups])
    meant = np.concatenate([np.full(len(rows), label) for rows, label, _ in groups])
    # Each side weighs one half, however many questions it has.
    weights = np.concatenate([np.full(len(rows), weight * 0.5 / len(rows)) for rows, _, weight in groups])
    coefficients = _regressed(features, meant, weights * len(owners))
    if not any(coefficients[1:]):
        return _DEFAULT_COEFFICIENTS, _DEFAULT_THRESHOLD
    costs = weights * np.where(meant == 1.0, MEANT_COST, 1 - MEANT_COST)
    return coefficients, _threshold(_confidence(features, coefficients), meant, costs)


def _regressed(features: Vectors, meant: Vectors, weights: Vectors) -> tuple[float, float, float]:
    """Logistic regression with a ridge on all but the constant, by Newton's method, over standardised features.

    None of the cosines counts against: where examples are so few and so unlike that one would, it counts for nothing, lest
    an example itself be less meant than what is like none.
    """
    counted = [1, 2]
    while True:
        found = _newton(features[:, [0, *counted]], meant, weights)
        against = [column for column, slope in zip(counted, found[1:], strict=True) if slope < 0.0]
        if not against:
            break
        # The nearest mean in the encoder's own space is the surer of the two, however few the examples.
        counted.remove(against[0])
    slopes = {column: float(slope) for column, slope in zip(counted, found[1:], strict=True)}
    return (float(found[0]), slopes.get(1, 0.0), slopes.get(2, 0.0))


def _newton(features: Vectors, meant: Vectors, weights: Vectors) -> Vectors:
    """The constant and a slope for each further column of ``features``, whose first is one."""
    mean, spread = features[:, 1:].mean(0), np.maximum(features[:, 1:].std(0), 1e-6)
    rows = np.concatenate([features[:, :1], (features[:, 1:] - mean) / spread], axis=1)
    beta = np.zeros(rows.shape[1])
    ridge = np.diag([0.0, *([_RIDGE] * (rows.shape[1] - 1))])
    for _ in range(_NEWTON_STEPS):
        probability = _confidence(rows, beta)
        gradient = rows.T @ (weights * (meant - probability)) - ridge @ beta
        curvature = (rows * (weights * probability * (1 - probability))[:, None]).T @ rows + ridge
        beta = beta + np.linalg.solve(curvature + 1e-9 * np.eye(len(beta)), gradient)
    slopes = beta[1:] / spread
    return np.concatenate([[beta[0] - slopes @ mean], slopes])


def _threshold(confidence: Vectors, meant: Vectors, costs: Vectors) -> float:
    """Where accepted minus wrongly accepted, by costs, is greatest; in the middle between the two values that it lies between."""
    order = np.argsort(-confidence, kind="stable")
    gain = np.cumsum(np.where(meant[order] == 1.0, costs[order], -costs[order]))
    last = int(np.argmax(gain))
    below = confidence[order[last + 1]] if last + 1 < len(order) else 0.0
    return float((confidence[order[last]] + below) / 2)


def _ambiguous_margin(whitened: Vectors, owners: Owners) -> float:
    """Half of the wrong choices among held-out examples were as near as this to another one; -1 without any."""
    wrong = whitened.argmax(1) != owners
    if not wrong.any():
        return -1.0
    ordered = np.sort(whitened[wrong], axis=1)
    return float(np.median(ordered[:, -1] - ordered[:, -2]))
