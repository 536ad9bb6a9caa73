"""Readiness as the standard health service tells it: it follows the service's own model, never peers.

A service that is alive but not ready answers NOT_SERVING here and UNAVAILABLE to
calls; whoever balances load sends none.  Liveness is the process itself.
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress

from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio

from services.chassis.logs import Log
from services.chassis.telemetry import Telemetry

_WATCHERS_SECONDS = 1.0
_States = health_pb2.HealthCheckResponse


class Health:
    """The state of one server: of every service it hosts and of the server as a whole (``""``)."""

    def __init__(self, telemetry: Telemetry, log: Log) -> None:
        self.servicer = aio.HealthServicer()
        self.reason = "starting"
        self.serving = False
        self.touched = False
        self._drained = False
        self._names: list[str] = [""]
        self._telemetry = telemetry
        self._log = log

    def set(self, serving: bool, reason: str = "") -> "asyncio.Future[None]":
        """Say whether the service is ready, and why not.  Takes effect by the next turn of the loop.

        May be called from the loop with or without ``await``.
        """
        self.touched = True
        if self._drained:
            serving, reason = False, self.reason
        if (serving, reason) != (self.serving, self.reason):
            self._log.info("health", serving=serving, reason=reason)
        self.serving, self.reason = serving, reason
        self._telemetry.ready.set(1 if serving else 0)
        return asyncio.ensure_future(self._publish(self._names))

    async def host(self, names: Iterable[str]) -> None:
        """Answer for these services too, with the present state."""
        self._names = ["", *names]
        await self._publish(self._names)

    async def drain(self) -> None:
        """NOT_SERVING for good: later calls of :meth:`set` no longer count."""
        self.set(False, "draining")
        self._drained = True
        # Bounded: the library waits for its watchers to read, and one that does not read must not stop us.
        with suppress(TimeoutError):
            async with asyncio.timeout(_WATCHERS_SECONDS):
                await self.servicer.enter_graceful_shutdown()

    async def _publish(self, names: list[str]) -> None:
        for name in names:
            state = _States.SERVING if self.serving else _States.NOT_SERVING
            await self.servicer.set(name, state)
