"""Starts engines when a request needs one, and stops those that nobody needs: the decisions of ``pool_table``, carried out.

Invariants: of one engine there is one life at a time however many wait for it (single
flight); starts take turns, because two at once take twice as long each; a request either
uses an engine that answers, waits for one within its deadline, or is refused with a retry
hint; whatever waits for a cold engine waits here, in no queue of an engine that runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from services.chassis.errors import Failure
from services.generator.admission import RETRY_SECONDS
from services.generator.hosts import Host, too_large
from services.generator.places import RESTART_RETRY_SECONDS, not_ready
from services.generator.pool_table import PoolLimits, PoolTable, Room
from services.generator.supervision import EngineState, Log
from services.generator.waiting_room import WaitingRoom

# After an engine would not start, the next request tries it again only after a while.
_SECOND_TRY_SECONDS = 30.0
_LOOK_SECONDS = 1.0

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class Pool:
    """Every engine of this generator: ``async with pool.use(host, tenant)``."""

    def __init__(self, limits: PoolLimits, monotonic: Callable[[], float], spawn: Spawn, log: Log) -> None:
        self._limits = limits
        self._now = monotonic
        self._spawn = spawn
        self._log = log
        self._table = PoolTable(limits)
        self._hosts: dict[str, Host] = {}
        self._waits = WaitingRoom(limits.max_waiting)
        self._starting = ""
        self._retry_at: dict[str, float] = {}
        self._changed = asyncio.Event()
        self._closed = False

    def hosts(self) -> tuple[Host, ...]:
        """Every host, the one that is always on first."""
        return tuple(sorted(self._hosts.values(), key=lambda host: not host.base.always_on))

    def get(self, digest: str) -> Host | None:
        """The host of a base, if it is known here."""
        return self._hosts.get(digest)

    def add(self, host: Host) -> None:
        """Know a host; one that is always on starts now, the others when they are needed."""
        self._hosts[host.digest] = host
        self._table.add(host.digest, host.size_bytes, always_on=host.base.always_on)
        if host.base.always_on:
            host.life = self._spawn(self._live(host))
        self._notify()

    def forget(self, host: Host) -> bool:
        """Know a host no longer; False when its engine runs or is waited for, or a request still reckons with it."""
        if host.life is not None or host.digest in self._waits or self._table[host.digest].in_use:
            return False
        del self._hosts[host.digest]
        self._table.forget(host.digest)
        self._retry_at.pop(host.digest, None)
        self._notify()
        return True

    def state(self, host: Host) -> EngineState:
        """State of a host's engine as people see it."""
        if host.life is None:
            if host.digest in self._waits:
                return EngineState.QUEUED
            return EngineState.FAILED if host.given_up else EngineState.STOPPED
        entry = self._table[host.digest]
        return EngineState.DRAINING if entry.stopping or entry.closing else host.supervisor.state

    def waiting(self, host: Host) -> int:
        """Requests that wait for the engine itself."""
        return self._waits.count(host.digest)

    def idle_seconds(self, host: Host) -> float:
        """Since when nobody uses it; 0 while somebody does."""
        entry = self._table[host.digest]
        return 0.0 if entry.in_use or not entry.used_at else self._now() - entry.used_at

    def require_possible(self, host: Host) -> None:
        """Raise ENGINE_TOO_LARGE for an engine that could not run here however long one waited."""
        if self._table.room(host.digest)[0] is Room.NEVER:
            raise too_large(host, self._limits.budget_bytes)

    def has_room(self, host: Host) -> bool:
        """Whether the engine runs, or could be started without anybody else's having to wait for it."""
        return host.life is not None or self._table.room(host.digest)[0] in (Room.FREE, Room.AFTER_STOPPING)

    def startable(self, host: Host) -> bool:
        """Whether the engine could run here at all, and has not just refused to."""
        return self._table.room(host.digest)[0] is not Room.NEVER and not host.given_up

    async def changed(self) -> None:
        """Return at the next change of an engine's state, or of who waits for one."""
        await self._changed.wait()

    @asynccontextmanager
    async def use(self, host: Host, tenant: str) -> AsyncIterator[None]:
        """Have the host's engine answer while the block lasts; start it if need be.

        Of the engine that is always on nothing is waited for: its slots say when they are not ready.  Raises
        ENGINE_TOO_LARGE, OVERLOADED, and NOT_READY when there is no room, or the engine does not start.
        """
        await self._enter(host, tenant)
        try:
            yield
        finally:
            self._table.leave(host.digest, tenant, self._now())
            self._dispatch()

    def release(self, host: Host) -> None:
        """Stop the engine as soon as it is idle, without waiting for longer."""
        if not host.base.always_on:
            self._table.release(host.digest)
            self._dispatch()

    def heard(self, host: Host) -> None:
        """A host's supervisor has something to say: its state changed."""
        self._table.answers(host.digest, host.ready, self._now())
        if host.ready:
            host.given_up = ""
        if self._table[host.digest].open:
            self._grant(host)
        self._settle(host)

    def look(self) -> None:
        """Do what has come due: stop what was idle for long enough, give up what waited for too long."""
        self._dispatch()

    async def run(self) -> None:
        """Look again and again, until cancelled; then end every engine."""
        try:
            while True:
                self.look()
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            self._closed = True
            lives = [host.life for host in self._hosts.values() if host.life is not None]
            for life in lives:
                life.cancel()
            await asyncio.gather(*lives, return_exceptions=True)
            for host in self._hosts.values():
                await host.constraints.close()

    async def _enter(self, host: Host, tenant: str) -> None:
        if self._hosts.get(host.digest) is not host:
            # Forgotten since it was found, for many others that were asked for meanwhile.
            raise not_ready("its base was set aside for others")
        if host.base.always_on or self._table[host.digest].open:
            self._table.enter(host.digest, tenant)
            return
        self._require_sensible(host)
        wait = self._waits.enter(host.digest, tenant, self._now())
        self._notify()
        self._dispatch()
        try:
            await wait.ready
        except asyncio.CancelledError:
            if wait.granted:
                # In the very step in which its caller went away.
                self._table.leave(host.digest, tenant, self._now())
            self._waits.leave(wait)
            self._dispatch()
            raise

    def _require_sensible(self, host: Host) -> None:
        """Raise unless it makes sense to wait for this engine."""
        self.require_possible(host)
        retry_at = self._retry_at.get(host.digest, 0.0)
        if host.life is None and self._now() < retry_at:
            raise _no_start(host, retry_at - self._now())

    def _dispatch(self) -> None:
        """Stop what is overdue, start what can be started, make room for what cannot."""
        if self._closed:
            return
        for digest in self._table.overdue(self._now()):
            self._stop(self._hosts[digest])
        queued = self._waits.queued(digest for digest, host in self._hosts.items() if host.life is None)
        if not queued:
            self._table.reopen()
            self._serve_reopened()
            return
        waiting = {digest: tenants for digest, tenants, _ in queued}
        for digest in self._table.in_turn(queued):
            if self._starting:
                return
            self._try(self._hosts[digest], waiting[digest])

    def _serve_reopened(self) -> None:
        for host in self._hosts.values():
            if self._table[host.digest].open:
                self._grant(host)

    def _try(self, host: Host, tenants: set[str]) -> None:
        room, victims = self._table.room(host.digest)
        if room is Room.FREE:
            self._start(host)
        for digest in victims:
            self._stop(self._hosts[digest])
        if room is Room.NEVER:
            self._waits.refuse(host.digest, lambda: too_large(host, self._limits.budget_bytes))
        if room is Room.NONE:
            self._crowded(host, tenants)

    def _crowded(self, host: Host, tenants: set[str]) -> None:
        """Everything is in use: claim the room of somebody who has more, or give up after a while."""
        if self._table.ask_to_close(tenants, self._now()) or self._stopping():
            self._notify()
            return
        oldest = self._now() - self._limits.patience_seconds
        self._waits.refuse(host.digest, lambda: not_ready("every engine that fits into its memory is in use"), oldest)

    def _stopping(self) -> bool:
        return any(self._table[digest].stopping for digest in self._hosts)

    def _start(self, host: Host) -> None:
        self._starting = host.digest
        host.given_up = ""
        self._table.started(host.digest)
        host.life = self._spawn(self._live(host))
        self._log.info("engine_starts", engine=host.engine.facts.name, estimate_bytes=host.size_bytes)
        self._notify()

    def _stop(self, host: Host) -> None:
        assert host.life is not None
        self._table.stopping(host.digest)
        host.life.cancel()
        self._log.info("engine_stops", engine=host.engine.facts.name)
        self._notify()

    async def _live(self, host: Host) -> None:
        """All lives of an engine from its start until it is stopped, or cannot be started."""
        try:
            await host.supervisor.run()
            host.given_up = f"its engine did not start: {host.supervisor.last_error}"
            self._retry_at[host.digest] = self._now() + _SECOND_TRY_SECONDS
        finally:
            host.life = None
            host.slots.suspend("the engine is stopped")
            self._table.stopped(host.digest, self._now())
            if host.given_up:
                self._waits.refuse(host.digest, lambda: _no_start(host, _SECOND_TRY_SECONDS))
            self._settle(host)
            await host.constraints.rest()

    def _settle(self, host: Host) -> None:
        """A life began to answer, or ended: the next start may have its turn."""
        if self._starting == host.digest and (host.ready or host.life is None):
            self._starting = ""
        self._notify()
        self._dispatch()

    def _grant(self, host: Host) -> None:
        self._waits.grant(host.digest, lambda tenant: self._table.enter(host.digest, tenant))

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _no_start(host: Host, seconds: float) -> Failure:
    failure = not_ready(host.given_up or "its engine does not start")
    failure.retry_after_seconds = max(seconds, RETRY_SECONDS) if host.given_up else RESTART_RETRY_SECONDS
    return failure
