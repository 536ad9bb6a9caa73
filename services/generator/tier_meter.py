"""Metrics of the tiers: how much lies in each, and how often a version was found there, came in or made room.

Invariant: the labels are the three tiers and the three events, whatever users do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from services.chassis.telemetry import Telemetry
from services.generator.accounting import Usage
from services.generator.residency import Tier
from services.generator.tallies import Event


class TierMeter:
    """Counters and gauges of one generator."""

    def __init__(self, telemetry: Telemetry) -> None:
        about = "Requests that found a version in a tier, versions that came in, versions that made room."
        self._events = telemetry.counter("generator_tier_events", about, ("tier", "event"))
        self._versions = telemetry.gauge("generator_tier_versions", "Versions in a tier.", ("tier",))
        self._bytes = telemetry.gauge("generator_tier_bytes", "Bytes that versions take in a tier.", ("tier",))

    def count(self, tier: Tier, event: Event) -> None:
        """Something happened."""
        self._events.labels(tier.value, event.value).inc()

    def read(self, usage: Callable[[], Sequence[Usage]]) -> None:
        """From now on tell what lies in each tier whenever the metrics are read."""

        def of(tier: Tier) -> Usage:
            return next(each for each in usage() if each.tier is tier)

        for tier in Tier:
            self._versions.labels(tier.value).set_function(partial(_versions, of, tier))
            self._bytes.labels(tier.value).set_function(partial(_bytes, of, tier))


def _versions(of: Callable[[Tier], Usage], tier: Tier) -> float:
    return of(tier).versions


def _bytes(of: Callable[[Tier], Usage], tier: Tier) -> float:
    return of(tier).size_bytes
