"""How the engine's processes wait for one another on a CPU: in naps, not spinning.

The readers of vLLM's queue between engine core and worker spin for a second after each message.  On a CPU the core
thereby takes a processor on which the worker multiplies, or that another service waits for: 30 ms of a decode step's
65, and 5 once it naps (batch 32, SmolLM2-135M, two processors).

A reader looks again after a part of the time that it has waited already, so what a message takes longer is a small
part of what it took anyway.  To await the notification that the writer sends with every message, as is done once
that second is over, is slower: it comes through threads that must be woken first.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

_SINCE = "trivium_waiting_since"
_PART = 1 / 16
_SHORTEST_SECONDS, _LONGEST_SECONDS = 20e-6, 300e-6


def nap_seconds(waited_seconds: float) -> float:
    """How long to sleep before looking again."""
    return min(max(waited_seconds * _PART, _SHORTEST_SECONDS), _LONGEST_SECONDS)


def _napping(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def wait(self: Any, timeout_ms: int | None = None) -> None:
        now = time.monotonic()
        if now > self.last_read + self.busy_loop_s:
            original(self, timeout_ms)
            return
        if getattr(self, _SINCE, 0.0) < self.last_read:
            setattr(self, _SINCE, now)
        time.sleep(nap_seconds(now - getattr(self, _SINCE)))

    return wait


def install() -> None:
    """Let readers nap, where the platform is a CPU."""
    from vllm.distributed.device_communicators.shm_broadcast import SpinCondition
    from vllm.platforms import current_platform

    if not current_platform.is_cpu() or getattr(SpinCondition, "trivium_installed", False):
        return
    SpinCondition.trivium_installed = True
    SpinCondition.wait = _napping(SpinCondition.wait)
