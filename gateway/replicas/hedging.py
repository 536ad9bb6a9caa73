"""When a second replica is asked although the first has not failed: it has said nothing for longer than nearly all others took.

To wait until then removes most of a long tail for few more requests (Dean and Barroso, "The Tail at Scale", CACM 56(2),
2013).

Invariant: of n requests at most ``share`` times n are asked of a second replica, however slow all of them are: a fleet that is
slow because it is full is not filled further.
"""

import math
from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass

# Of a base: the first messages that count as lately, and how many there must be before they say anything.
KEPT = 512
LEAST = 20
# What quiet times may save for bad ones, in requests.
_SAVED = 10.0


@dataclass(frozen=True, slots=True)
class HedgingLimits:
    """From which ``quantile`` of first messages on a request is asked again (0: never), and never before the floor.

    ``share`` is the most that are, of all requests.
    """

    quantile: float = 0.0
    floor_seconds: float = 0.0
    share: float = 0.0


class Hedging:
    """How long first messages took lately, by base, and how many second requests may be afforded now."""

    def __init__(self, limits: HedgingLimits) -> None:
        self._limits = limits
        self._latest: dict[str, _Latest] = {}
        self._saved = 0.0

    def came(self) -> None:
        """There is one more request."""
        self._saved = min(_SAVED, self._saved + self._limits.share)

    def patience_seconds(self, base: str) -> float | None:
        """How long a request may wait for its first message before it is asked again; None: for ever.

        ``base`` is as the request names it; its adapters take as long as it does.
        """
        latest = self._latest.get(base)
        if not self._limits.quantile or latest is None or len(latest) < LEAST:
            return None
        return max(self._limits.floor_seconds, latest.at(self._limits.quantile))

    def heard(self, base: str, seconds: float) -> None:
        """A request had its first message so long after it came, whichever replica sent it."""
        self._latest.setdefault(base, _Latest()).add(seconds)

    def afford(self) -> bool:
        """Take what one second request costs; False where it cannot be afforded."""
        affordable = self._saved >= 1.0
        self._saved -= affordable
        return affordable


class _Latest:
    """The last ``KEPT`` values, by age and by size."""

    __slots__ = ("_by_age", "_by_size")

    def __init__(self) -> None:
        self._by_age: deque[float] = deque()
        self._by_size: list[float] = []

    def __len__(self) -> int:
        return len(self._by_age)

    def add(self, value: float) -> None:
        self._by_age.append(value)
        insort(self._by_size, value)
        if len(self._by_age) > KEPT:
            del self._by_size[bisect_left(self._by_size, self._by_age.popleft())]

    def at(self, quantile: float) -> float:
        """The least of them that this part of all does not exceed (nearest rank)."""
        return self._by_size[max(0, math.ceil(quantile * len(self._by_size)) - 1)]
