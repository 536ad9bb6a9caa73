"""Counts of many questions as figures, each with its 95 % interval."""

from collections.abc import Callable, Mapping, Sequence

import numpy
from numpy.typing import NDArray

from tests.load.ask_quality.judging import Judged

Counts = NDArray[numpy.float64]
_RESAMPLES = 2_000
# What is summed, a column each.
_COLUMNS: tuple[Callable[[Judged], float], ...] = (
    lambda it: it.answerable,
    lambda it: it.exact,
    lambda it: it.f1,
    lambda it: it.citations,
    lambda it: it.right_citations,
    lambda it: it.golds,
    lambda it: it.golds_cited,
    lambda it: it.golds_offered,
    lambda it: it.abstained,
    lambda it: it.abstained and not it.answerable,
    lambda it: not it.answerable,
)
_ASKED, _EXACT, _F1, _CITATIONS, _RIGHT, _GOLDS, _CITED, _OFFERED, _ABSTAINED, _RIGHTLY, _UNANSWERABLE = range(11)
# A figure is one sum over another.
_FIGURES: Mapping[str, tuple[int, int]] = {
    "exact": (_EXACT, _ASKED),
    "f1": (_F1, _ASKED),
    "citation_precision": (_RIGHT, _CITATIONS),
    "citation_recall": (_CITED, _GOLDS),
    "offered": (_OFFERED, _GOLDS),
    "abstention_precision": (_RIGHTLY, _ABSTAINED),
    "abstention_recall": (_RIGHTLY, _UNANSWERABLE),
}
NAMES = tuple(_FIGURES)


def figures(rows: Sequence[Judged], *, seed: int = 0) -> dict[str, tuple[float, float, float] | None]:
    """Each figure with the bounds of its bootstrap over the questions; None where it is over nothing."""
    counts: Counts = numpy.array([[float(column(row)) for column in _COLUMNS] for row in rows])
    weights = numpy.full(len(counts), 1 / len(counts))
    drawn = numpy.random.default_rng(seed).multinomial(len(counts), weights, size=_RESAMPLES) @ counts
    return {name: _figure(counts.sum(axis=0), drawn, *pair) for name, pair in _FIGURES.items()}


def _figure(whole: Counts, drawn: Counts, above: int, below: int) -> tuple[float, float, float] | None:
    if not whole[below]:
        return None
    some = drawn[drawn[:, below] > 0]
    low, high = numpy.percentile(some[:, above] / some[:, below], (2.5, 97.5))
    return float(whole[above] / whole[below]), float(low), float(high)
