"""The rule by which a figure counts as worse.

Stored are the values of at least three runs.  Their spread is the distance of the best from the worst.  The tolerance is
the largest of

- half of the spread,
- the key's share of the stored median (10 %, less for what hardly scatters),
- the key's least difference, in its own unit (for differences that may be near zero).

A figure is WORSE where it is beyond the worst stored run by more than the tolerance, BETTER where it is beyond the best by
more, else OK.  It is MISSING where either side has none.  A ratio is compared with the figures of the same hardware; if
no run on that hardware is stored, with those of other hardware.  Any other figure is then NOT_COMPARED.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from tests.load.bench_check.benchmarks import Benchmark, Better, Key
from tests.load.bench_check.stored import Record, Spread


class Verdict(StrEnum):
    """The result of a comparison."""

    OK = "ok"
    WORSE = "worse"
    BETTER = "better"
    MISSING = "missing"
    NOT_COMPARED = "not compared"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A figure beside what is stored of it; ``bound`` is the last value that is not worse."""

    benchmark: str
    key: Key
    verdict: Verdict
    now: float | None
    stored: Spread | None = None
    bound: float | None = None


def compared(
    benchmark: Benchmark, figures: Mapping[str, float], record: Record | None, hardware: str
) -> list[Comparison]:
    """Return the comparison of each of the benchmark's keys; ``figures`` are those of this run."""
    return [_compared(benchmark.name, key, figures.get(key.name), record, hardware) for key in benchmark.keys]


def _compared(benchmark: str, key: Key, now: float | None, record: Record | None, hardware: str) -> Comparison:
    stored = record.figures.get(key.name) if record else None
    if record is None or stored is None or now is None:
        return Comparison(benchmark, key, Verdict.MISSING, now, stored)
    if not key.is_ratio and record.hardware != hardware:
        return Comparison(benchmark, key, Verdict.NOT_COMPARED, now, stored)
    return Comparison(benchmark, key, verdict(key, now, stored), now, stored, bound(key, stored))


def verdict(key: Key, now: float, stored: Spread) -> Verdict:
    """Return whether a figure is beyond the stored runs by more than the tolerance."""
    if _is_beyond(now, bound(key, stored), key.better is Better.LOWER):
        return Verdict.WORSE
    best = stored.highest if key.better is Better.HIGHER else stored.lowest
    room = tolerance(key, stored)
    if _is_beyond(now, best + room if key.better is Better.HIGHER else best - room, key.better is Better.HIGHER):
        return Verdict.BETTER
    return Verdict.OK


def bound(key: Key, stored: Spread) -> float:
    """Return the last value that is not worse."""
    room = tolerance(key, stored)
    return stored.lowest - room if key.better is Better.HIGHER else stored.highest + room


def tolerance(key: Key, stored: Spread) -> float:
    """Return how far beyond the stored runs a figure may be."""
    half = (stored.highest - stored.lowest) / 2
    return max(half, key.share * abs(stored.median), key.least)


def better_of(keys: Sequence[Key], one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """Return the better value of each figure that either run has."""
    found = {}
    for key in keys:
        values = [run[key.name] for run in (one, other) if key.name in run]
        if values:
            found[key.name] = max(values) if key.better is Better.HIGHER else min(values)
    return found


def _is_beyond(value: float, limit: float, above: bool) -> bool:
    return value > limit if above else value < limit
