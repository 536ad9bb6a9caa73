"""A replica that fails is left alone for a while, then tried with one request before it gets its share again.

Invariant: between two ejections of a replica there is exactly one trial at a time; one that
fails ejects it for twice as long as before, up to a bound, and one that succeeds lets it back.
"""

from collections.abc import Callable
from enum import Enum

CONSECUTIVE_FAILURES = 3
FIRST_SECONDS = 2.0
LONGEST_SECONDS = 60.0


class Standing(Enum):
    """Whether a replica gets requests."""

    IN = "in"
    EJECTED = "ejected"
    PROBATION = "probation"


class Ejection:
    """The standing of one replica.  ``clock`` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures = 0
        self._ejections = 0
        self._until: float | None = None
        self._trying = False

    @property
    def standing(self) -> Standing:
        """As of now."""
        if self._until is None:
            return Standing.IN
        return Standing.EJECTED if self._clock() < self._until else Standing.PROBATION

    @property
    def usable(self) -> bool:
        """Whether it may be sent something: of one on probation, whether nobody tries it yet."""
        standing = self.standing
        return standing is Standing.IN or (standing is Standing.PROBATION and not self._trying)

    def sent(self) -> bool:
        """It is sent something.  True when this is the trial, which whoever sent it ends."""
        trial = self.standing is Standing.PROBATION and not self._trying
        self._trying = self._trying or trial
        return trial

    def succeeded(self) -> None:
        """It answered: whatever it answered, it works."""
        on_trial = self.standing is Standing.PROBATION
        self._failures = 0
        if on_trial:
            self._until = None
            self._ejections = max(0, self._ejections - 1)

    def failed(self) -> None:
        """It broke off, could not be reached, or failed by a fault of its own."""
        on_trial = self.standing is Standing.PROBATION
        self._failures += 1
        if on_trial or (self._until is None and self._failures >= CONSECUTIVE_FAILURES):
            seconds = min(FIRST_SECONDS * 2**self._ejections, LONGEST_SECONDS)
            self._ejections += 1
            self._failures = 0
            self._until = self._clock() + seconds

    def ended(self, trial: bool) -> None:
        """What it was sent has ended, whatever came of it: after the trial another one may follow."""
        self._trying = self._trying and not trial
