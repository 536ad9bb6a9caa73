"""Who has had the processors of this machine lately: what serves, or other programs than the suite's.

A process that gives way is asked why it does not come forward.  That something serves is no answer: it may have been
idle all the while, and programs that are nobody's here go before training too.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from services.chassis.resources import serving_pids, usable_cpus

# Long enough that one request, or the start of a program, does not look like the state of the machine.
_WINDOW_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class CoreUse:
    """Mean cores in use over the last window: by services that answer people, and by programs that are not the suite's."""

    serving: float = 0.0
    others: float = 0.0


@dataclass(frozen=True, slots=True)
class _Reading:
    """Processor seconds until a moment: of everybody, of each service that answers people, of this process and its own."""

    at: float
    busy: float
    serving: float
    own: float


class CoreMeter:
    """Measures when it is asked, over at least ten seconds; between two measurements it repeats the last one.

    What this process and those that it started use counts as nobody's.
    """

    def __init__(self, data_dir: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._data_dir = data_dir
        self._clock = clock
        self._last = self._read()
        self._use = CoreUse()

    def __call__(self) -> CoreUse:
        """What was used over the last window; nothing before the first one has passed."""
        if self._clock() - self._last.at >= _WINDOW_SECONDS:
            before, self._last = self._last, self._read()
            self._use = _between(before, self._last)
        return self._use

    def _read(self) -> _Reading:
        cpus = psutil.cpu_times(percpu=True)
        used = [cpus[cpu] for cpu in usable_cpus() if cpu < len(cpus)]
        busy = sum(times.user + times.nice + times.system for times in used)
        return _Reading(
            self._clock(), busy, _seconds_of(serving_pids(self._data_dir)), _seconds_of([psutil.Process().pid])
        )


def _between(before: _Reading, after: _Reading) -> CoreUse:
    # A service that restarted, or a child whose time nobody collected, has used less than nothing.
    seconds = after.at - before.at
    serving = max(0.0, after.serving - before.serving)
    own = max(0.0, after.own - before.own)
    others = max(0.0, after.busy - before.busy - serving - own)
    return CoreUse(serving / seconds, others / seconds)


def _seconds_of(pids: Iterable[int]) -> float:
    """Processor seconds of processes, all that they started, and what of these has ended."""
    total = 0.0
    for pid in pids:
        try:
            process = psutil.Process(pid)
            family = [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            continue
        for member in family:
            try:
                total += sum(member.cpu_times()[:4])
            except psutil.Error:
                continue
    return total
