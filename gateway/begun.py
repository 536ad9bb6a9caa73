"""What a request has used that has no end yet, and whether it counts if it never gets one."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from gateway.generation import Receipt
from gateway.leaving import Leaving, leaves
from gateway.limits.gate import EXHAUSTED
from gateway.side_by_side import joined
from gateway.under_way import Place
from services.chassis.errors import Failure, Reason

# A deadline that was too short, and a limit that only the engine's word showed.
_ENDED_BY_CALLER = EXHAUSTED | {Reason.DEADLINE_EXCEEDED}


@dataclass(slots=True)
class One:
    """The answers to one prompt: their opening, None before there is one, or their receipt, and the tokens since."""

    opening: Receipt | None = None
    completion_tokens: int = 0


@dataclass(slots=True)
class Begun:
    """The answers to all prompts of a request.

    ``enter`` gives a place where the next process would find it, and ``leaving`` says whether any of it has left; without it
    whatever is passed on leaves, and ``told`` is whether any was.
    """

    enter: Callable[[Receipt], Place | None]
    leaving: Leaving | None = None
    ones: list[One] = field(default_factory=list)
    told: bool = False
    place: Place | None = None
    _sought: bool = False

    def __post_init__(self) -> None:
        if self.leaving is not None:
            self.leaving.at_first(self._leaves)

    def another(self) -> One:
        """One more prompt is begun."""
        self.ones.append(One())
        return self.ones[-1]

    def used(self) -> Receipt | None:
        """What is to be recorded of it as it is; None where that is nothing."""
        used = [
            replace(one.opening, usage=replace(one.opening.usage, completion_tokens=one.completion_tokens))
            for one in self.ones
            if one.opening is not None
        ]
        return joined(used) if used else None

    def opened(self) -> None:
        """A prompt has its opening, so that it counts."""
        receipt = self.used()
        if receipt is not None:
            self.holds(receipt)

    def holds(self, receipt: Receipt) -> None:
        """From here on this stands in its place, under the id that it has there."""
        if self.place is not None:
            self.place.holds(replace(receipt, request_id=self.place.waiting.receipt.request_id))

    def passes(self) -> None:
        """Some of it is passed on; the first that leaves takes a place."""
        self.told = True
        if self.place is not None:
            self.place.heard(sum(one.completion_tokens for one in self.ones))
        elif self.leaving is None and not self._sought:
            self._leaves()

    def _leaves(self) -> None:
        """The first of it is about to leave, or may be."""
        self._sought = True
        receipt = self.used()
        if receipt is not None and leaves():
            self.place = self.enter(receipt)

    def ends(self, receipt: Receipt) -> None:
        """From here on its receipt is what is recorded.  What was held until now may leave before that is durable."""
        if not self._sought:
            self._leaves()
        self.ones.clear()
        if self.place is not None:
            self.place.holds(receipt)

    def left(self) -> None:
        """Nothing of it is to be found any more."""
        if self.place is not None:
            self.place.leave()
            self.place = None

    def is_charged(self, failure: Failure) -> bool:
        """Whether it counts although it ends in a failure: by the caller's doing, as leaving is, or with a part of it heard."""
        if failure.reason in _ENDED_BY_CALLER:
            return True
        left = self.told if self.leaving is None else self.leaving.begun
        return left and failure.reason is not Reason.VERSION_MISMATCH and leaves()
