"""What one engine holds: the residency table, the moves that are under way, and whoever waits for them to end.

Invariants: a move, once begun, runs to its end whoever goes away meanwhile; a version leaves its slot only when nobody
uses it; ``changed`` wakes everybody after every change of where a version is or who uses it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from services.chassis.errors import Failure, Reason
from services.generator.engine import Engine, EngineLost
from services.generator.moving import Mover
from services.generator.priorities import Priorities
from services.generator.residency import Move, Resident, StoredAdapter
from services.generator.residency_table import ResidencyTable
from services.generator.tallies import Tallies

RESTART_RETRY_SECONDS = 15.0


def not_ready(why: str) -> Failure:
    """The failure of every call while the engine cannot answer."""
    return Failure(Reason.NOT_READY, retry_after_seconds=RESTART_RETRY_SECONDS, service="generator", why=why)


@dataclass(frozen=True, slots=True)
class Shared:
    """What the engines of one process have in common.

    ``refused`` hears whose files an engine would not take, ``stalled`` of each engine that was killed because it hung.
    """

    priorities: Priorities = field(default_factory=Priorities)
    tallies: Tallies = field(default_factory=Tallies)
    refused: Callable[[str], None] = lambda _: None
    stalled: Callable[[], None] = lambda: None


class Holdings:
    """One engine's versions; ``settled`` hears of every move that ended: when it began, and what went wrong."""

    def __init__(
        self,
        engine: Engine,
        table: ResidencyTable,
        monotonic: Callable[[], float],
        shared: Shared,
        settled: Callable[[Move, float, Exception | None], None],
    ) -> None:
        self.table = table
        self._mover = Mover(engine, self.table, shared.tallies, monotonic, shared.refused)
        self._now = monotonic
        self._settled = settled
        self._tasks: set[asyncio.Task[Exception | None]] = set()
        self._changed = asyncio.Event()
        self._leaving: set[str] = set()
        # What the lost engine held and the next one will be given.
        self.lost: frozenset[str] = frozenset()

    def require_harmless(self, version: str) -> None:
        """Raises WEIGHTS_REFUSED for a version that the engine died of."""
        self._mover.require_harmless(version)

    def start(self, move: Move) -> asyncio.Task[Exception | None]:
        """Carry a move out in a task of its own."""
        task = asyncio.get_running_loop().create_task(self._carry_out(move, self._mover.life))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _carry_out(self, move: Move, life: int) -> Exception | None:
        began = self._now()
        failure: Exception | None = None
        try:
            failure = await self._mover.run(move, life)
        finally:
            fault = sys.exception()
            if fault is not None:
                # Whoever waits is told that it is ours; the loop, or whoever awaits the task, logs it.
                failure = Failure(Reason.INTERNAL)
                failure.__cause__ = fault
            self.notify()
            self._settled(move, began, failure)
        return failure

    async def keep(self, stored: StoredAdapter) -> bool:
        """Bring a version into host memory, unless it is at hand; False when what ranks higher fills that.

        Raises WEIGHTS_REFUSED, NOT_READY.
        """
        if self.table.get(stored.version) is None:
            move = self.table.lift(stored, self._now())
            if move is None:
                return False
            failure = await asyncio.shield(self.start(move))
            if isinstance(failure, EngineLost):
                raise not_ready(str(failure)) from failure
            if failure is not None:
                raise failure
        while (held := self.table.get(stored.version)) is not None and not held.at_hand:
            await self.changed()
        return held is not None

    async def lower(self, version: str) -> None:
        """Take a version out of its slot into host memory, once idle and if that has room."""
        while (held := self.table.get(version)) is not None and held.in_flight:
            await self.changed()
        move = self.table.lower(version)
        if move is not None:
            await asyncio.shield(self.start(move))

    async def unload(self, version: str) -> None:
        """Take a version out of slot and memory once idle.  Raises ADAPTER_NOT_RESIDENT."""
        if self.table.get(version) is None:
            raise Failure(Reason.ADAPTER_NOT_RESIDENT, name=version)
        self._leaving.add(version)
        self.table.close(version)
        try:
            while (move := self.table.unload(version)) is None and self.table.get(version) is not None:
                await self.changed()
        finally:
            self._leaving.discard(version)
            self.reopen()
        if move is not None:
            await asyncio.shield(self.start(move))

    def reopen(self) -> bool:
        """Nobody waits for room: what was asked to close serves on, unless it is being taken out; whether any was."""
        return self.table.reopen(self._leaving)

    def pin(self, version: str, pinned: bool) -> Resident:
        """Protect from eviction; see ResidencyTable.pin."""
        held = self.table.pin(version, pinned)
        self.notify()
        return held

    async def changed(self) -> None:
        """Return at the next change of where a version is or who uses it."""
        await self._changed.wait()

    def notify(self) -> None:
        """Wake those who wait for a change."""
        self._changed.set()
        self._changed = asyncio.Event()

    def suspend(self) -> list[Resident]:
        """The engine is gone: nothing is held; returns what was, for :meth:`restore`."""
        self._mover.end_life()
        before = self.table.forget_all()
        self.lost |= {held.stored.version for held in before}
        return before

    async def restore(self, before: list[Resident]) -> None:
        """Give a new engine what the slots of the lost one held; host memory follows by and by.  Raises EngineLost."""
        harmless = [held for held in before if not self._mover.quarantined(held.stored.version)]
        for held in harmless:
            if held.in_slot:
                await self._restore(held)
        self.lost = frozenset()
        for held in harmless:
            if not held.in_slot and self.table.get(held.stored.version) is None:
                move = self.table.lift(held.stored, held.used_at)
                if move is not None:
                    self.start(move)

    async def _restore(self, held: Resident) -> None:
        move = self.table.load(held.stored, held.used_at)
        if move is None:
            return
        # In a task, whose fault is logged and costs this version its slot, not the engine its life.
        coming = self.start(move)
        await asyncio.wait({coming})
        fault = coming.exception()
        if fault is not None:
            told = {"message": f"{held.stored.version} was not loaded again", "exception": fault}
            asyncio.get_running_loop().call_exception_handler(told)
            return
        failure = coming.result()
        if isinstance(failure, EngineLost):
            raise failure
        if failure is None:
            self.table.touch(held.stored.version, held.used_at)
            if held.pinned:
                self.table.pin(held.stored.version, True)
