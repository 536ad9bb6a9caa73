"""The stages of one answer: what each may take of the deadline, what it took, what it decided, and what replaced it.

Invariants: a stage that has a budget never outlives it; whatever is left out or replaced for that is told, and where the
caller wants no replacement the request fails instead.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from gateway.generation import Fallback, StageTiming
from gateway.stages import Stopwatch
from services.chassis.context import current_or_none
from services.chassis.errors import Failure, Reason


@dataclass(frozen=True, slots=True)
class Share:
    """The most that a stage may take: a part of what is left when it begins, and so many seconds."""

    part: float
    most_seconds: float


# What leaves at least four tenths of any deadline to the answer itself.
BUDGETS = {
    "rewrite": Share(0.1, 5.0),
    "resolve": Share(0.2, 10.0),
    "retrieve": Share(0.3, 20.0),
    "retrieve shallow": Share(0.2, 10.0),
    "summarize": Share(0.5, 120.0),
    "count": Share(0.3, 20.0),
    "prompt": Share(0.2, 10.0),
    "verify": Share(0.5, 10.0),
    "check": Share(0.5, 20.0),
}


@dataclass(frozen=True, slots=True)
class Report:
    """One stage; ``budget_seconds`` None where the request's deadline alone counts.

    ``words`` go on with the decision in what the caller said, and are for the caller alone.
    """

    stage: str
    seconds: float
    input_size: int = 0
    budget_seconds: float | None = None
    decision: str = ""
    words: str = ""


class BudgetSpentError(Exception):
    """A stage was stopped at the end of its budget."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"it did not end within {seconds:.2g} s")


class Span(Protocol):
    """What a trace keeps of a stage."""

    def set(self, name: str, value: str | int | float) -> None:
        """Add an attribute; never a text of the caller's."""


class Tracer(Protocol):
    """Begins spans of stages."""

    def __call__(self, name: str, seconds: float = 0.0) -> AbstractContextManager[Span | None]:
        """The span of a stage that began so many seconds ago, below the call's; None without a trace.

        What is called inside the block are its children.
        """


class Running:
    """A stage while it runs; its input, its decision and words of the caller's that this goes on in may be set until it ends."""

    __slots__ = ("budget_seconds", "decision", "elsewhere_seconds", "input_size", "words")

    def __init__(self, budget_seconds: float | None) -> None:
        self.budget_seconds = budget_seconds
        # Of its time, what is told as other stages.
        self.elsewhere_seconds = 0.0
        self.input_size = 0
        self.decision = ""
        self.words = ""

    def report(self, name: str, seconds: float) -> Report:
        """What the stage came to."""
        own = max(0.0, seconds - self.elsewhere_seconds)
        return Report(name, own, self.input_size, self.budget_seconds, self.decision, self.words)


class Stages:
    """The stages of one request.  ``remaining`` gives the seconds that are left of its deadline, None without one."""

    def __init__(
        self,
        clock: Callable[[], float],
        remaining: Callable[[], float | None],
        trace: Tracer,
        *,
        fallbacks: bool = True,
    ) -> None:
        self.watch = Stopwatch(clock)
        self._clock = clock
        self._remaining = remaining
        self._trace = trace
        self._allowed = fallbacks
        self._reports: list[Report] = []
        self._fallbacks: list[Fallback] = []

    def now(self) -> float:
        """Seconds on the clock that stages are timed by."""
        return self._clock()

    @property
    def reports(self) -> tuple[Report, ...]:
        """The stages so far, in the order in which they ended."""
        return tuple(self._reports)

    @property
    def whole(self) -> tuple[Report, ...]:
        """Every stage of the request, with those that only a peer timed; ours as they were reported."""
        at = next((at for at, report in enumerate(self._reports) if report.stage == "verify"), len(self._reports))
        return (*self._reports[:at], *self._theirs(self.watch.timings), *self._reports[at:])

    def _theirs(self, timings: Iterable[StageTiming]) -> list[Report]:
        """Those of the stages that only a peer timed."""
        own = {report.stage for report in self._reports}
        return [Report(it.stage, it.seconds, it.input_size) for it in timings if it.stage not in own]

    @property
    def fallbacks(self) -> tuple[Fallback, ...]:
        """What was left out or replaced so far."""
        return tuple(self._fallbacks)

    @asynccontextmanager
    async def stage(self, name: str, budget: str = "", *, timed: bool = True) -> AsyncIterator[Running]:
        """Run the block as a stage, under ``BUDGETS[budget or name]`` where there is one.

        ``timed`` False leaves the timing to :meth:`measured`.  Raises BudgetSpentError.
        """
        running = Running(self._budget(budget or name))
        began = self._clock()
        try:
            with self._trace(name) as span:
                try:
                    async with _until_spent(running.budget_seconds, running.budget_seconds):
                        yield running
                finally:
                    _describe(span, running.report(name, 0.0))
        finally:
            seconds = self._clock() - began
            if timed:
                self.watch.measured(name, seconds, running.input_size)
            self._reports.append(running.report(name, seconds))

    @contextmanager
    def moment(self, name: str) -> Iterator[Running]:
        """Run a block as a stage without a budget: what waits for nobody, or has all the time of its request."""
        running = Running(None)
        began = self._clock()
        try:
            with self._trace(name) as span:
                try:
                    yield running
                finally:
                    _describe(span, running.report(name, 0.0))
        finally:
            seconds = self._clock() - began
            self.watch.measured(name, seconds, running.input_size)
            self._reports.append(running.report(name, seconds))

    def in_pieces(self, name: str) -> "InPieces":
        """A stage whose pieces lie between those of others, under ``BUDGETS[name]`` together."""
        return InPieces(name, self._clock, self._budget, self._trace, self._ended)

    def _ended(self, report: Report) -> None:
        self.watch.measured(report.stage, report.seconds, report.input_size)
        self._reports.append(report)

    def measured(self, *timings: StageTiming, decisions: Mapping[str, str] = MappingProxyType({})) -> None:
        """Take in stages that a peer measured, with what it decided in them."""
        self.watch.add(*timings)
        reports = [
            Report(item.stage, item.seconds, item.input_size, decision=decisions.get(item.stage, ""))
            for item in timings
        ]
        self._reports += reports
        self._trace_afterwards(reports)

    def end(self, timings: Iterable[StageTiming]) -> None:
        """The request has ended with these ``timings``: what of them a peer took stands in its trace, too."""
        self._trace_afterwards(self._theirs(timings))

    def _trace_afterwards(self, reports: Iterable[Report]) -> None:
        for report in reports:
            with self._trace(report.stage, report.seconds) as span:
                _describe(span, report)

    def fell_back(self, stage: str, instead: str, cause: Exception) -> None:
        """Tell that something replaces a stage.  Raises the cause where the caller wants no replacement."""
        if not self._allowed:
            raise cause if isinstance(cause, Failure) else Failure(Reason.DEADLINE_EXCEEDED) from cause
        reason = cause.sentence if isinstance(cause, Failure) else str(cause)
        self.note(stage, instead, reason)

    def note(self, stage: str, instead: str, reason: str) -> None:
        """Tell of a replacement that a peer has made already."""
        self._fallbacks.append(Fallback(stage, instead, reason))

    def _budget(self, name: str) -> float | None:
        share = BUDGETS.get(name)
        if share is None:
            return None
        left = self._remaining()
        return share.most_seconds if left is None else min(share.most_seconds, share.part * left)


def remaining() -> float | None:
    """Seconds that are left of the current call's deadline; None without one."""
    request = current_or_none()
    return None if request is None else request.remaining_seconds()


class InPieces:
    """A stage whose work lies between that of another: one budget for all its pieces, and one report of them.

    The budget is of what is left when the first piece begins.
    """

    def __init__(
        self,
        name: str,
        clock: Callable[[], float],
        budget: Callable[[str], float | None],
        trace: Tracer,
        ended: Callable[[Report], None],
    ) -> None:
        self._name = name
        self._clock = clock
        self._budget = budget
        self._trace = trace
        self._ended = ended
        self._whole: Running | None = None
        # Of the pieces that have ended, and when the one began that runs.
        self._seconds = 0.0
        self._began = 0.0

    @asynccontextmanager
    async def piece(self) -> AsyncIterator[Running]:
        """Run the block as one of its pieces, which is timed and traced."""
        if self._whole is None:
            self._whole = Running(self._budget(self._name))
        running = Running(self._whole.budget_seconds)
        self._began = self._clock()
        try:
            with self._trace(self._name) as span:
                try:
                    yield running
                finally:
                    _describe(span, running.report(self._name, 0.0))
        finally:
            self._seconds += self._clock() - self._began
            self._whole.input_size, self._whole.decision = running.input_size, running.decision

    @asynccontextmanager
    async def limited(self) -> AsyncIterator[None]:
        """Run the block, inside a piece, in what is left of the budget.  Raises BudgetSpentError."""
        budget = None if self._whole is None else self._whole.budget_seconds
        spent = self._seconds + self._clock() - self._began
        async with _until_spent(None if budget is None else budget - spent, budget):
            yield

    def end(self) -> None:
        """Report all of it, with the input and the decision of its last piece."""
        if self._whole is not None:
            self._ended(self._whole.report(self._name, self._seconds))


@asynccontextmanager
async def _until_spent(left_seconds: float | None, budget_seconds: float | None) -> AsyncIterator[None]:
    """Stop the block after so many seconds, with the budget that is spent then.  Raises BudgetSpentError."""
    try:
        async with asyncio.timeout(left_seconds) as limit:
            yield
    except TimeoutError:
        if limit.expired() and budget_seconds is not None:
            raise BudgetSpentError(budget_seconds) from None
        raise


def _describe(span: Span | None, report: Report) -> None:
    """All of a stage but the words of its caller's."""
    if span is None:
        return
    span.set("trivium.stage.input_size", report.input_size)
    span.set("trivium.stage.decision", report.decision)
    if report.budget_seconds is not None:
        span.set("trivium.stage.budget_seconds", report.budget_seconds)
