"""On what terms the runner works: how patient it is, what the operator grants, and what wakes it.

Invariant: what is said while nobody waits is not lost: the next wait returns at once.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from services.trainer.planning import Allowance
from services.trainer.scheduling.state import Policy


@dataclass(frozen=True, slots=True)
class Limits:
    """How patient the runner is.  Times in seconds."""

    max_crashes: int
    restart_seconds: float
    max_restart_seconds: float
    # The queue is looked at whenever a job changes, and at least this often.
    plan_seconds: float = 2.0

    def pause_after(self, crashes: int) -> float:
        """Seconds to wait before the next try after so many crashes in a row."""
        return float(min(self.restart_seconds * 2 ** max(0, crashes - 1), self.max_restart_seconds))


@dataclass(frozen=True, slots=True)
class Granted:
    """What the operator decides about the queue: threads of a process, tenants' weights and quotas, the policy."""

    threads: int
    allowances: Mapping[str, Allowance] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)


class Wake:
    """Called when something changed that a plan depends on."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def __call__(self) -> None:
        """Say so."""
        self._changed.set()

    async def wait(self, seconds: float) -> None:
        """Wait until it was called since the last wait, or `seconds` have passed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        self._changed.clear()
