"""Keeps one engine alive: starts it, notices its death, rebuilds it with what it held.

Invariant: an engine counts as serving only while it has answered a probe and holds again
what it held before; callers in between get NOT_READY with a retry hint.  Each engine has
a supervisor of its own, so that the death of one is nothing to the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Protocol

from services.generator.engine import Engine, EngineLost
from services.generator.places import Slots
from services.generator.residency import Resident

_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0


class EngineState(Enum):
    """State of an engine as people see it."""

    STOPPED = "stopped"
    QUEUED = "queued"
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


class Log(Protocol):
    """Events with fields."""

    def info(self, event: str, **fields: Any) -> Any:
        """Something worth knowing."""
        ...

    def error(self, event: str, **fields: Any) -> Any:
        """Something that somebody must look at."""
        ...


@dataclass(frozen=True, slots=True)
class World:
    """What the supervisor acts on beside the engine; ``serving`` hears of every change of state, with the cause."""

    serving: Callable[[bool, str], object]
    now: Callable[[], datetime]
    pause: Callable[[float], Awaitable[None]]
    log: Log


class Supervisor:
    """The lives of one engine; with ``attempts`` it gives up after so many of them in a row that never answered."""

    def __init__(self, engine: Engine, slots: Slots, world: World, attempts: int | None = None) -> None:
        self._engine = engine
        self._slots = slots
        self._world = world
        self._attempts = attempts
        self.state = EngineState.STARTING
        self.started_at: datetime | None = None
        self.restarts = 0
        self.last_error = ""

    async def run(self) -> None:
        """Start the engine and rebuild it as often as it dies, until cancelled or given up."""
        held: list[Resident] = []
        pause_seconds = _FIRST_PAUSE_SECONDS
        failures = 0
        try:
            while True:
                held, answered = await self._live(held)
                failures = 0 if answered else failures + 1
                if failures == self._attempts:
                    return
                pause_seconds = _FIRST_PAUSE_SECONDS if answered else min(pause_seconds * 2, _LONGEST_PAUSE_SECONDS)
                await self._world.pause(pause_seconds)
                self.restarts += 1
        finally:
            self.state = EngineState.DRAINING
            await asyncio.shield(self._engine.stop())

    async def _live(self, held: list[Resident]) -> tuple[list[Resident], bool]:
        """One life: start, serve, die.  Returns what to load into the next, and whether this one answered."""
        self.state = EngineState.STARTING
        self._world.serving(False, "the engine is starting")
        answered = False
        try:
            await self._engine.start()
            self.started_at = self._world.now()
            await self._slots.resume(held)
            held, answered = [], True
            self.state = EngineState.READY
            self._world.serving(True, "")
            self._world.log.info("engine_ready", engine=self._engine.facts.name, restarts=self.restarts)
            await self._engine.death()
        except EngineLost as lost:
            self.last_error = str(lost)
            self._world.log.error("engine_start_failed", engine=self._engine.facts.name, error=str(lost))
        else:
            self.last_error = "the engine's process ended"
        self.state = EngineState.FAILED
        self._world.serving(False, "the engine was lost")
        lost_now = self._slots.suspend("the engine was lost and is being rebuilt")
        self._world.log.error("engine_lost", engine=self._engine.facts.name, resident=len(lost_now))
        await self._engine.stop()
        return held or lost_now, answered
