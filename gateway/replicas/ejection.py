"""A replica that fails is left alone for a while, then tried with one request before it gets its share again.

Invariants: between two ejections of a replica there is exactly one trial at a time; one that
fails ejects it for twice as long as before, up to a bound, and one that succeeds lets it back.
One that was ejected for its silence is let back by an answer of its engine alone: what answers
from its event loop (counting tokens, a list of engines) does so while the engine hangs.
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
        self._silences = 0
        self._ejections = 0
        # Whether it was ejected for its silence, and has not spoken since.
        self._mute = False
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
        if on_trial and not self._mute:
            self._until = None
            self._ejections = max(0, self._ejections - 1)

    def spoke(self) -> None:
        """Its engine said something."""
        self._silences = 0
        self._mute = False

    def failed(self) -> None:
        """It broke off, could not be reached, or failed by a fault of its own."""
        self._failures += 1
        self._eject_after(self._failures)

    def kept_silent(self) -> None:
        """A request ended without a word of it, which was its fault (``silence``)."""
        self._silences += 1
        self._mute = self._eject_after(self._silences) or self._mute

    def _eject_after(self, in_a_row: int) -> bool:
        on_trial = self.standing is Standing.PROBATION
        ejected = on_trial or (self._until is None and in_a_row >= CONSECUTIVE_FAILURES)
        if ejected:
            seconds = min(FIRST_SECONDS * 2**self._ejections, LONGEST_SECONDS)
            self._ejections += 1
            self._failures = self._silences = 0
            self._until = self._clock() + seconds
        return ejected

    def ended(self, trial: bool) -> None:
        """What it was sent has ended, whatever came of it: after the trial another one may follow."""
        self._trying = self._trying and not trial
