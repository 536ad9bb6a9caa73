"""What a busy machine takes from something that is timed by the clock on the wall, so that a bound on it can stay short."""

import threading
import time
from types import TracebackType
from typing import Self

_BEAT_SECONDS = 0.01


class Watched:
    """Knows when, inside its block, this process had no processor: a thread of it that should have run did not."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._beaten_at = 0.0
        # When it last ran before it was starved, and when it ran again: Unix time.
        self._gaps: list[tuple[float, float]] = []
        self._thread = threading.Thread(target=self._beat, name="starvation", daemon=True)

    def __enter__(self) -> Self:
        self._beaten_at = time.time()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._take()

    def _beat(self) -> None:
        while not self._over.wait(_BEAT_SECONDS):
            self._take()

    def _take(self) -> None:
        now = time.time()
        if now - self._beaten_at > 2 * _BEAT_SECONDS:
            self._gaps.append((self._beaten_at, now))
        self._beaten_at = now

    def seconds(self, began: float, ended: float) -> float:
        """Seconds between two moments in Unix time, of any process, without those in which this one was starved.

        Call it after the block.
        """
        inside = ((max(begin, began), min(end, ended)) for begin, end in self._gaps)
        starved = sum(max(0.0, end - begin - 2 * _BEAT_SECONDS) for begin, end in inside)
        return ended - began - starved
