"""Asks the engine for what the residency table decided, and remembers whose loading it did not survive.

Invariants: the bytes of a version are read into host memory beside the engine's loop before a slot is filled, so that
no step waits for a disk; what makes room has left before the newcomer comes; a move that began in one life of the
engine asks nothing of the next; a move ends, whatever is raised in it, and nothing is on its way any more then; a
version whose loading killed the engine twice is not loaded again, and those that may have killed it are loaded one
after the other, so that none is blamed for another; of what the engine refused nothing stays in it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from services.chassis.errors import Failure, Reason
from services.generator.engine import Engine, EngineAdapter, EngineLost, EngineRefused
from services.generator.residency import Move, Resident, Tier
from services.generator.residency_table import ResidencyTable
from services.generator.tallies import Tallies

T = TypeVar("T")

# Once may be chance: something else killed it while the version was being loaded.
_DEATHS_TO_QUARANTINE = 2


class Mover:
    """One engine's moves; ``refused`` hears of versions whose files the engine would not take."""

    def __init__(
        self,
        engine: Engine,
        table: ResidencyTable,
        tallies: Tallies,
        monotonic: Callable[[], float],
        refused: Callable[[str], None],
    ) -> None:
        self._engine = engine
        self._table = table
        self._tallies = tallies
        self._now = monotonic
        self._refused = refused
        # How often the engine died while a version was being loaded into it.
        self._deaths: Counter[str] = Counter()
        self._suspects = asyncio.Lock()
        self.life = 0

    def end_life(self) -> None:
        """The engine is gone: what is under way ends with EngineLost."""
        self.life += 1

    def quarantined(self, version: str) -> bool:
        """Whether the engine died of it often enough."""
        return self._deaths[version] >= _DEATHS_TO_QUARANTINE

    def require_harmless(self, version: str) -> None:
        """Raises WEIGHTS_REFUSED for what is quarantined."""
        if self.quarantined(version):
            problem = (
                f"the engine died {_DEATHS_TO_QUARANTINE} times while {version} was loaded; it is not loaded again "
                "before the generator is started anew"
            )
            raise Failure(Reason.WEIGHTS_REFUSED, problem=problem)

    async def run(self, move: Move, life: int) -> Exception | None:
        """Carry a move out that was decided in a ``life`` and tell the table.

        Returns what became of it instead: WEIGHTS_REFUSED, or EngineLost.  Raises what is a fault of ours, and then nothing of what was on its way is left in engine and table.
        """
        ended = False
        try:
            failure = await self._run(move, life)
            ended = True
            return failure
        finally:
            if not ended:
                await self._abandon(move, life)

    async def _abandon(self, move: Move, life: int) -> None:
        """Let go of all that a fault of ours left on its way, so that the next request begins anew."""
        lowering = (move.lower.stored.version, move.lower.adapter) if move.lower else None
        moving = [own for own in ((move.stored.version, move.adapter), lowering) if own and self._table.moves(*own)]
        unknown = [held.adapter for held in (*move.drop, *((move.unload,) if move.unload else ()))]
        try:
            with suppress(EngineLost):
                for adapter in (*(adapter for _, adapter in moving), *unknown):
                    await self._unload(adapter, life)
                    await self._drop(adapter, life)
        finally:
            for version, adapter in moving:
                self._table.gone(version, adapter)

    async def _run(self, move: Move, life: int) -> Exception | None:
        began = self._now()
        try:
            await self._make_room(move, life)
            weight_bytes = await self._bring(move, life)
        except EngineRefused as refused:
            with suppress(EngineLost):
                await self._unload(move.adapter, life)
                await self._drop(move.adapter, life)
            self._table.gone(move.stored.version, move.adapter)
            self._refused(move.stored.version)
            # For the version's owner, to whom it is nothing where it lies here.
            problem = str(refused).replace(str(move.stored.folder), "its folder")
            return Failure(Reason.WEIGHTS_REFUSED, problem=problem)
        except EngineLost as lost:
            self._table.gone(move.stored.version, move.adapter)
            return lost
        now = self._now()
        self._table.arrived(move, now, now - began, weight_bytes)
        await self._trim(life)
        return None

    def _living(self, life: int) -> Engine:
        """The engine, while it lives that life.  Raises EngineLost, for which nothing is to blame that is asked now."""
        if life != self.life or not self._engine.alive:
            raise EngineLost("the engine was lost meanwhile")
        return self._engine

    async def _make_room(self, move: Move, life: int) -> None:
        """What leaves, leaves; it is an eviction unless that is the whole of the move."""
        for held in move.drop:
            await self._drop(held.adapter, life)
            if held.adapter != move.adapter:
                self._tallies.evicted(Tier.MEMORY, held.stored)
        leaver = move.lower or move.unload
        if leaver is None:
            return
        if leaver.adapter != move.adapter:
            self._tallies.evicted(Tier.SLOT, leaver.stored)
        if move.lower is not None:
            await self._lower(move.lower, life)
        else:
            await self._unload(leaver.adapter, life)

    async def _bring(self, move: Move, life: int) -> int:
        """Lift and load what comes in; the bytes of its weights where they were measured, else 0."""
        if move.to is Tier.FILE or (move.to is Tier.MEMORY and not move.lift):
            return 0
        if not self._deaths[move.stored.version]:
            return await self._brought(move, life)
        async with self._suspects:
            return await self._brought(move, life)

    async def _brought(self, move: Move, life: int) -> int:
        weight_bytes = 0
        if move.lift:
            weight_bytes = await self._survived(move, self._living(life).lift(move.adapter))
        if move.to is Tier.SLOT:
            await self._survived(move, self._living(life).load(move.adapter))
        del self._deaths[move.stored.version]
        self._tallies.loaded(move.to, move.stored)
        return weight_bytes

    async def _survived(self, move: Move, asked: Awaitable[T]) -> T:
        """What the engine says; if it dies instead, that is held against the version."""
        try:
            return await asked
        except EngineLost:
            self._deaths[move.stored.version] += 1
            raise

    async def _lower(self, held: Resident, life: int) -> None:
        try:
            weight_bytes = await self._living(life).lower(held.adapter)
        except EngineRefused:
            self._table.gone(held.stored.version, held.adapter)
            await self._unload(held.adapter, life)
            return
        self._table.lowered(held.adapter, held.stored.version, weight_bytes)
        self._tallies.loaded(Tier.MEMORY, held.stored)

    async def _trim(self, life: int) -> None:
        with suppress(EngineLost):
            for held in self._table.overflow():
                await self._drop(held.adapter, life)
                self._tallies.evicted(Tier.MEMORY, held.stored)

    async def _unload(self, adapter: EngineAdapter, life: int) -> None:
        # Refused, the engine does not hold it, which is what was wanted.
        with suppress(EngineRefused):
            await self._living(life).unload(adapter)

    async def _drop(self, adapter: EngineAdapter, life: int) -> None:
        with suppress(EngineRefused):
            await self._living(life).drop(adapter)
