"""How the threads of one process wait for one another: spinning while the cores are theirs, asleep while others want them.

Between the thousands of short loops of a training step a thread that sleeps has to be woken each time: on two quiet
cores that takes a fifth of a step of 512 tokens.  A thread that spins on a core that somebody else wants keeps it from
the very thread that it waits for: beside one another two such processes take twice as long.
libgomp decides anew at each wait: it spins for GOMP_SPINCOUNT turns, and under OMP_WAIT_POLICY=PASSIVE not at all while
the process has more OpenMP threads than there are processors (its manual, GOMP_SPINCOUNT).  A second team of threads
that does nothing therefore puts the first one to sleep.  Where the runtime is another one, the team changes nothing.
Invariant: the number of threads that share a loop, and so what is computed, is the same either way.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path

# For the process in which waiting is to change; its turns take about half a millisecond to one and a half.
ENVIRONMENT = {"GOMP_SPINCOUNT": "30000", "OMP_WAIT_POLICY": "PASSIVE"}
# Often enough for an engine that answers now and then; what a thread waits for a core in less says little.
_LOOK_SECONDS = 0.5
# Threads that wait for a core for this part of the time have company: of two processes on the same cores each has half,
# and a service that keeps its books takes less than a tenth.
_CROWDED_SHARE = 0.2
_TASKS = Path("/proc/self/task")


class Waiting:
    """Decides it for this process.  Asleep at first, until a look finds the cores quiet.

    `delay_seconds` says for how long the process's threads have been ready and without a core, in all; None where the
    system does not tell, which leaves them asleep.
    """

    def __init__(
        self,
        threads: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        delay_seconds: Callable[[], float | None] | None = None,
    ) -> None:
        self._threads = threads
        self._clock = clock
        self._delay_seconds = delay_seconds or Delays().seconds
        self._looked, self._delayed = clock(), self._delay_seconds()
        self._second: _IdleTeam | None = None
        self._sleep()

    @property
    def spins(self) -> bool:
        """Whether threads spin before they sleep."""
        return self._second is None

    def look(self) -> None:
        """See whether others want the cores; called often, looks now and then."""
        now = self._clock()
        passed = now - self._looked
        if passed < _LOOK_SECONDS:
            return
        delayed = self._delay_seconds()
        if delayed is not None and self._delayed is not None:
            if delayed - self._delayed > _CROWDED_SHARE * self._threads * passed:
                self._sleep()
            else:
                self._spin()
        self._looked, self._delayed = now, delayed

    def close(self) -> None:
        """Leave things as they were."""
        self._spin()

    def _sleep(self) -> None:
        if self._second is None and self._threads > 1:
            self._second = _IdleTeam()

    def _spin(self) -> None:
        if self._second is not None:
            self._second.close()
            self._second = None


class Delays:
    """How long the threads of this process have waited for a core since the first look, those that have ended included."""

    def __init__(self, tasks: Path = _TASKS) -> None:
        self._tasks = tasks
        self._known: dict[str, int] = {}
        self._nanoseconds = 0

    def seconds(self) -> float | None:
        """In all; None where the system does not tell (`/proc/PID/schedstat`, Linux)."""
        found = {}
        ran = False
        try:
            for task in self._tasks.iterdir():
                try:
                    _, waited, times = map(int, (task / "schedstat").read_text().split())
                    found[task.name] = waited
                    ran = ran or times > 0
                except ProcessLookupError:
                    # Ended meanwhile.
                    continue
                except FileNotFoundError:
                    if task.exists():
                        return None
        except FileNotFoundError:
            return None
        # A system that keeps no such account says 0 of everything, also of how often this very thread was given a core.
        if not ran:
            return None
        self._nanoseconds += sum(waited - self._known.get(name, 0) for name, waited in found.items())
        self._known = found
        return self._nanoseconds / 1e9


class _IdleTeam:
    """A thread of Python that has once shared a loop with as many OpenMP threads as any, and holds them."""

    def __init__(self) -> None:
        self._over, self._there = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._hold, name="idle team", daemon=True)
        self._thread.start()
        self._there.wait()

    def close(self) -> None:
        """Its threads end; the runtime counts them no more."""
        self._over.set()
        self._thread.join()

    def _hold(self) -> None:
        import torch

        # More than one thread takes at once (at::internal::GRAIN_SIZE).
        torch.zeros(1 << 20).add_(1.0)
        self._there.set()
        self._over.wait()
