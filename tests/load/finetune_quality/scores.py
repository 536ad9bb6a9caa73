"""How answers are counted, and how sure one may be that one method's counts are better than another's.

Invariant: a figure is a function of counts summed over rows, so that rows can be drawn again (the bootstrap) and the
figure of the drawn rows is the same function.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

Counts = NDArray[numpy.float64]
_RESAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class Headline:
    """The figure by which methods are compared.  `of` takes summed counts [..., kinds] and returns [...]."""

    name: str
    of: Callable[[Counts], Counts]
    higher_is_better: bool = True


@dataclass(frozen=True, slots=True)
class Measured:
    """Counts of each row [rows, kinds], the headline that they add up to, and further figures of the same rows."""

    headline: Headline
    counts: Counts
    further: Mapping[str, float]

    @property
    def value(self) -> float:
        """The headline's figure."""
        return float(self.headline.of(self.counts.sum(axis=0)))

    @property
    def figures(self) -> dict[str, float]:
        """All figures by name."""
        return {self.headline.name: self.value, **self.further}


@dataclass(frozen=True, slots=True)
class Interval:
    """How much higher the one figure is, and the bounds between which 95 % of the resamples lie."""

    difference: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """Whether the one figure is told from the other."""
        if self.low > 0:
            return "above"
        return "below" if self.high < 0 else "not told apart"


def _ratio(above: Counts, below: Counts) -> Counts:
    return numpy.divide(above, below, out=numpy.zeros_like(above), where=below > 0)


def _mean(sums: Counts) -> Counts:
    return _ratio(sums[..., 0], sums[..., 1])


def _f1(sums: Counts) -> Counts:
    return _ratio(2 * sums[..., 0], 2 * sums[..., 0] + sums[..., 1] + sums[..., 2])


ACCURACY = Headline("accuracy", _mean)
# Counts: found, found and not there, there and not found.
SLOT_F1 = Headline("slot_f1", _f1)
SLOT_ERROR_RATE = Headline("slot_error_rate", _mean, higher_is_better=False)
PREFERENCE_ACCURACY = Headline("preference_accuracy", _mean)


def paired_interval(one: Measured, other: Measured, *, seed: int = 0) -> Interval:
    """One's figure minus the other's, with the 95 % percentile interval of a bootstrap over the rows, which both share.

    Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
    """
    assert one.headline is other.headline
    rows = len(one.counts)
    drawn = numpy.random.default_rng(seed).multinomial(rows, numpy.full(rows, 1 / rows), size=_RESAMPLES)
    differences = one.headline.of(drawn @ one.counts) - one.headline.of(drawn @ other.counts)
    low, high = numpy.percentile(differences, (2.5, 97.5))
    return Interval(one.value - other.value, float(low), float(high))


def shares(values: Sequence[float]) -> Counts:
    """Counts of values that are to be averaged: [rows, 2]."""
    return numpy.array([(value, 1.0) for value in values])


def exact_match(expected: Sequence[str], given: Sequence[str]) -> Measured:
    """Accuracy of answers that are right when they are the expected word for word."""
    return Measured(ACCURACY, shares([float(a.split() == b.split()) for a, b in zip(given, expected, strict=True)]), {})


def slots_of(answer: str) -> Counter[tuple[str, str]] | None:
    """The slots in an answer: an object whose values are texts or lists of them.  None for anything else."""
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    slots: Counter[tuple[str, str]] = Counter()
    for name, value in found.items():
        for text in value if isinstance(value, list) else [value]:
            # A slot whose value is no text is a wrong one, not a malformed answer.
            slots[name, text if isinstance(text, str) else json.dumps(text)] += 1
    return slots


def slot_f1(expected: Sequence[str], given: Sequence[str]) -> Measured:
    """Micro-averaged F1 over slots and their whole values; an answer that is no JSON object has no slots.

    Beside it the share of answers that are JSON, and of those with every slot right.
    """
    counts, right, valid = [], [], []
    for wanted_text, given_text in zip(expected, given, strict=True):
        wanted, found = slots_of(wanted_text) or Counter(), slots_of(given_text)
        valid.append(float(found is not None))
        right.append(float(found == wanted))
        had = found or Counter()
        shared = (had & wanted).total()
        counts.append((shared, had.total() - shared, wanted.total() - shared))
    further = {"valid_json_rate": float(numpy.mean(valid)), "all_slots_right_rate": float(numpy.mean(right))}
    return Measured(SLOT_F1, numpy.array(counts, dtype=float), further)


def preference(margins: Sequence[float], likelihoods: Sequence[float]) -> Measured:
    """Share of pairs with a reward margin above 0; one of exactly 0, as the base has by definition, counts half.

    `margins` are those of the implicit reward (Rafailov et al., "Direct Preference Optimization", 2023): how much more
    the model prefers the better answer than the base does.  `likelihoods`: by how much, in nats, the better answer is
    the likelier one under the model itself.
    """
    points = [(1.0 if margin > 0 else 0.5 if margin == 0 else 0.0) for margin in margins]
    likelier = [(1.0 if nats > 0 else 0.5 if nats == 0 else 0.0) for nats in likelihoods]
    further = {"likelier_rate": float(numpy.mean(likelier)), "mean_margin_nats": float(numpy.mean(margins))}
    return Measured(PREFERENCE_ACCURACY, shares(points), further)
