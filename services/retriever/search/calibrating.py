"""The threshold of answers, fitted on a collection's own questions of both kinds.

Invariant: a threshold is judged on questions that it was not fitted on, and taken only where it tells them apart better
than the default beyond the 95 % interval of the difference.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from services.retriever.search import answerable
from services.retriever.search.intervals import mean, paired


@dataclass(frozen=True, slots=True)
class Calibration:
    """A threshold, and how it does on questions of both kinds that it was not fitted on.

    ``auc`` is the chance that a question which the documents answer has the higher score of two.  ``answered`` is the
    share of these at or over the threshold, ``refused`` that of the others under it.  ``gain`` is the mean of both shares
    less that of the default threshold, with its 95 % interval.
    """

    threshold: float
    auc: float
    answered: float
    refused: float
    gain: float
    low: float
    high: float
    taken: bool


def calibrated(yes: Sequence[float], no: Sequence[float]) -> Calibration:
    """From the scores of questions that the documents answer, and of those that they do not; at least two of each."""
    fitted, default = _right(yes, no, None), _right(yes, no, answerable.THRESHOLD)
    gain, low, high = paired(_balanced(*fitted), _balanced(*default))
    taken = low > 0
    answered, refused = fitted if taken else default
    return Calibration(
        threshold=_fitted(yes, no) if taken else answerable.THRESHOLD,
        auc=_auc(yes, no),
        answered=mean(answered),
        refused=mean(refused),
        gain=gain,
        low=low,
        high=high,
        taken=taken,
    )


def _right(yes: Sequence[float], no: Sequence[float], threshold: float | None) -> tuple[list[float], list[float]]:
    """Of each question 1 where it is taken for what it is: by ``threshold``, or by what the other half bears out."""
    answered, refused = [0.0] * len(yes), [0.0] * len(no)
    for half in range(2):
        cut = _fitted(yes[1 - half :: 2], no[1 - half :: 2]) if threshold is None else threshold
        answered[half::2] = [float(score >= cut) for score in yes[half::2]]
        refused[half::2] = [float(score < cut) for score in no[half::2]]
    return answered, refused


def _fitted(yes: Sequence[float], no: Sequence[float]) -> float:
    return answerable.fit([*yes, *no], [*(True for _ in yes), *(False for _ in no)])


def _balanced(yes: Sequence[float], no: Sequence[float]) -> list[float]:
    """Both in one row in which each kind weighs as much as the other: its mean is the mean of their means."""
    total = len(yes) + len(no)
    return [*(it * total / (2 * len(yes)) for it in yes), *(it * total / (2 * len(no)) for it in no)]


def _auc(yes: Sequence[float], no: Sequence[float]) -> float:
    wins = sum((one > other) + (one == other) / 2 for one in yes for other in no)
    return wins / (len(yes) * len(no))
