"""What the parts share: figures, lines of progress, and a process's own time on the processors."""

import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import psutil

# By key; what a part prints at its end.
Figures = dict[str, Any]


def say(text: str) -> None:
    """Tell people how it goes; the last line of standard output is for the figures."""
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Stretch:
    """One measured stretch of load on one process."""

    count: int
    wall_seconds: float
    cpu_seconds: float

    @property
    def per_core_second(self) -> float:
        """How many in a second of the process's own time: what one core would do."""
        return self.count / self.cpu_seconds

    @property
    def each_us(self) -> float:
        """The process's own microseconds for each."""
        return self.cpu_seconds / self.count * 1e6


async def measured(pid: int, load: Callable[[int], Awaitable[int]], count: int) -> Stretch:
    """Run ``load(count)``, which returns how many ended well, and read the process's own time around it."""
    process = psutil.Process(pid)
    before, began = process.cpu_times(), time.perf_counter()
    done = await load(count)
    seconds, after = time.perf_counter() - began, process.cpu_times()
    return Stretch(done, seconds, after.user + after.system - before.user - before.system)
