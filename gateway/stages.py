"""How long each stage of a request took: one stopwatch a request, stages in the order they first ended."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gateway.generation import StageTiming


class Stage:
    """A stage while it runs; ``input_size`` may be set until it ends."""

    __slots__ = ("input_size",)

    def __init__(self) -> None:
        self.input_size = 0


class Stopwatch:
    """Collects the timings of one request.  ``clock`` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._timings: dict[str, StageTiming] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Measure the block as stage ``name``, also when it raises."""
        running = Stage()
        began = self._clock()
        try:
            yield running
        finally:
            self.measured(name, self._clock() - began, running.input_size)

    def measured(self, name: str, seconds: float, input_size: int = 0) -> None:
        """Append a stage that was measured otherwise."""
        self.add(StageTiming(name, seconds, input_size))

    def add(self, *timings: StageTiming) -> None:
        """Append the stages that a peer measured; a stage that both had a part in is one stage."""
        for timing in timings:
            self._timings[timing.stage] = _joined(self._timings.get(timing.stage), timing)

    def forked(self) -> "Stopwatch":
        """Another one that goes on from here, for one of several that run side by side."""
        further = Stopwatch(self._clock)
        further.add(*self.timings)
        return further

    @property
    def timings(self) -> tuple[StageTiming, ...]:
        """The stages so far."""
        return tuple(self._timings.values())


def _joined(earlier: StageTiming | None, later: StageTiming) -> StageTiming:
    if earlier is None:
        return later
    size = max(earlier.input_size, later.input_size)
    return StageTiming(later.stage, earlier.seconds + later.seconds, size)
