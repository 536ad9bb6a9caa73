"""How the engine's processes wait for one another on a CPU: asleep, not spinning.

The readers of vLLM's queue between engine core and worker spin for a second after each message.  On a CPU the core
thereby takes a processor on which the worker multiplies: of a decode step's 61 ms it burnt 26, and 3 once it sleeps
(batch 32, SmolLM2-135M, two processors).  A reader that sleeps is woken by the notification that the writer sends with
every message, as it is once that second is over.

Invariant: no sleep within that second is longer than ``_NAP_MS``.  The notification may be dropped when two messages
follow one another closely, and nobody may wait for one that never comes.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

_NAP_MS = 5


def _napping(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def wait(self: Any, timeout_ms: int | None = None) -> None:
        spin_seconds = self.busy_loop_s
        recent = self.last_read + spin_seconds
        self.busy_loop_s = 0.0
        try:
            original(self, _NAP_MS if time.monotonic() <= recent else timeout_ms)
        finally:
            self.busy_loop_s = spin_seconds

    return wait


def install() -> None:
    """Let readers sleep, where the platform is a CPU."""
    from vllm.distributed.device_communicators.shm_broadcast import SpinCondition
    from vllm.platforms import current_platform

    if not current_platform.is_cpu() or getattr(SpinCondition, "trivium_installed", False):
        return
    SpinCondition.trivium_installed = True
    SpinCondition.wait = _napping(SpinCondition.wait)
