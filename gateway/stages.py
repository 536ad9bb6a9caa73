"""How long each stage of a request took: one stopwatch a request, stages in the order they ended."""

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
        self._timings: list[StageTiming] = []

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
        """Append the stages that a peer measured."""
        self._timings.extend(timings)

    @property
    def timings(self) -> tuple[StageTiming, ...]:
        """The stages so far."""
        return tuple(self._timings)
