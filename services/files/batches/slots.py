"""Which batches a replica runs at a time, and who makes room for whom.

Invariant: a run that only waits for what is its own tenant's, a limit or a model that is not ready, keeps no batch out
whose lines could be asked; it goes on later, from its results.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from services.files.batches.pace import Activity, Pace
from services.files.batches.runs import Run, Turn

_REMEMBERED = 4096


@dataclass(eq=False, slots=True)
class Slot:
    """A run that a replica has in hand; ``since`` is by the monotonic clock, ``leaves`` once it has been set aside."""

    run: Run
    since: float
    activity: Activity = field(default_factory=Activity)
    task: asyncio.Task[None] | None = None
    leaves: bool = False

    def set_aside(self) -> None:
        """Have it end now; what it has in hand is asked again, under its old ids."""
        self.leaves = True
        if self.task is not None:
            self.task.cancel()


class Slots:
    """``most`` runs at a time, each of which stays for ``stay_seconds`` at least: to take one up again reads its input."""

    def __init__(self, most: int, stay_seconds: float, pace: Pace, monotonic: Callable[[], float]) -> None:
        self._most = most
        self._stay_seconds = stay_seconds
        self._pace = pace
        self._monotonic = monotonic
        self._slots: dict[str, Slot] = {}
        self._served_at: dict[str, float] = {}

    @property
    def batches(self) -> frozenset[str]:
        """Those that are in hand, until their runs have ended."""
        return frozenset(self._slots)

    @property
    def full(self) -> bool:
        """Whether one has to leave before another may come."""
        return sum(not slot.leaves for slot in self._slots.values()) >= self._most

    def idle(self) -> Slot | None:
        """The run that makes room first: of those that only wait, the one that has been here for longest."""
        before = self._monotonic() - self._stay_seconds
        idle = (slot for slot in self._slots.values() if slot.activity.idle and not slot.leaves)
        return min((slot for slot in idle if slot.since <= before), key=lambda slot: slot.since, default=None)

    def turns(self) -> Callable[[str, str], Turn | None]:
        """When a tenant's batch, whose first line names a model, comes: first who need not wait, by when each came last.

        None where it comes not at all: nobody makes room for what would only wait.  May be asked in another thread.
        """
        full = self.full

        def turn(tenant: str, model: str) -> Turn | None:
            waits = self._pace.waits(tenant, model)
            return None if waits and full else (waits, self._served_at.get(tenant, 0.0))

        return turn

    def take(self, run: Run) -> Slot:
        """Have a run in hand."""
        tenant, slot = run.batch.tenant, Slot(run, self._monotonic())
        self._served_at.pop(tenant, None)
        self._served_at[tenant] = slot.since
        while len(self._served_at) > _REMEMBERED:
            del self._served_at[next(iter(self._served_at))]
        self._slots[run.batch.batch] = slot
        return slot

    def leave(self, slot: Slot) -> None:
        """Its run has ended."""
        del self._slots[slot.run.batch.batch]
