"""The histogram of served calls, kept without locks.

Every call of the event loop's thread is counted here, several thousand a second; the
library's own histogram takes a lock for each bucket and sum.  Invariant: only the
loop's thread observes; scrapes read from another thread and may lag one call behind.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


@dataclass(slots=True)
class _Series:
    """One method and status: calls in each bucket (not cumulated) and their summed seconds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_SECONDS) + 1))
    seconds: float = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS_SECONDS, seconds)] += 1
        self.seconds += seconds


class CallDurations(Collector):
    """``rpc_server_call_duration_seconds`` by method and status."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, str], _Series] = {}

    def observer(self, method: str, status: str) -> Callable[[float], None]:
        """The function that records one served call; kept by the caller, looking it up is the slow part."""
        return self._series.setdefault((method.strip("/"), status), _Series()).observe

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """The histogram as Prometheus reads it."""
        family = HistogramMetricFamily(
            "rpc_server_call_duration_seconds",
            "Duration of served calls.",
            labels=("rpc_method", "rpc_response_status_code"),
        )
        for labels, series in list(self._series.items()):
            below, buckets = 0, []
            for bound, count in zip((*BUCKETS_SECONDS, float("inf")), series.counts, strict=True):
                below += count
                buckets.append((str(float(bound)) if bound != float("inf") else "+Inf", below))
            family.add_metric(labels, buckets, series.seconds)
        yield family
