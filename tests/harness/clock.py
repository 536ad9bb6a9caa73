"""Clocks that a test moves.  Each is called for its time, as ``time.monotonic`` is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class ManualClock:
    """A clock that stands still until a test moves it."""

    now: float = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""
        self.now += seconds


@dataclass(slots=True)
class OffsetClock:
    """A running clock that a test can move forward, for code that waits or that compares time stamps of others."""

    running: Callable[[], float]
    ahead_seconds: float = 0.0

    def __call__(self) -> float:
        """Return the time of the running clock and what it was moved."""
        return self.running() + self.ahead_seconds

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""
        self.ahead_seconds += seconds
