"""When a second replica is asked of what the first has not answered yet, and how often that may be."""

from collections.abc import Iterable

import pytest

from gateway.replicas.hedging import KEPT, LEAST, Hedging, HedgingLimits


def told(limits: HedgingLimits, seconds: Iterable[float], base: str = "") -> Hedging:
    hedging = Hedging(limits)
    for value in seconds:
        hedging.heard(base, value)
    return hedging


def test_a_request_waits_for_as_long_as_nearly_all_others_did_and_never_less_than_the_floor():
    hundred = [at / 100 for at in range(100, 0, -1)]
    assert told(HedgingLimits(0.95, 0.1, 1), hundred).patience_seconds("") == 0.95
    assert told(HedgingLimits(0.5, 0.1, 1), hundred).patience_seconds("") == 0.5
    assert told(HedgingLimits(0.95, 2.0, 1), hundred).patience_seconds("") == 2.0


def test_it_waits_for_ever_where_it_is_turned_off_and_where_too_little_is_known():
    assert told(HedgingLimits(0.0, 0.1, 1), [0.2] * KEPT).patience_seconds("") is None
    assert told(HedgingLimits(0.95, 0.1, 1), [0.2] * (LEAST - 1)).patience_seconds("") is None
    assert told(HedgingLimits(0.95, 0.1, 1), [0.2] * LEAST).patience_seconds("") == 0.2


def test_one_bases_times_say_nothing_of_anothers():
    hedging = told(HedgingLimits(0.95, 0.0, 1), [9.0] * LEAST, "large")
    for _ in range(LEAST):
        hedging.heard("", 0.2)
    assert (hedging.patience_seconds("large"), hedging.patience_seconds("")) == (9.0, 0.2)
    assert hedging.patience_seconds("other") is None


def test_only_the_latest_count():
    hedging = told(HedgingLimits(0.95, 0.0, 1), [9.0, *[0.1] * 10] * 100)
    assert hedging.patience_seconds("") == 9.0
    for at in range(KEPT):
        hedging.heard("", 0.2 + at / 10_000)
    assert hedging.patience_seconds("") == pytest.approx(0.2 + (KEPT * 0.95) / 10_000, abs=2e-4)


def test_however_slow_all_replicas_are_a_small_share_of_requests_is_asked_twice():
    hedging, twice = Hedging(HedgingLimits(0.95, 0.1, 0.05)), 0
    for number in range(1, 1001):
        hedging.came()
        twice += hedging.afford()
        assert twice <= 0.05 * number + 1e-6
    # Not fewer either, but for what floating point loses.
    assert twice >= 48


def test_quiet_times_save_for_bad_ones_and_not_without_end():
    hedging = Hedging(HedgingLimits(0.95, 0.1, 0.05))
    for _ in range(10_000):
        hedging.came()
    assert sum(hedging.afford() for _ in range(100)) == 10
