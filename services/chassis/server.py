"""Starts a service, serves until SIGTERM, drains.  All of it, on one screen.

Invariant: what is listed in the run file can be called; what was accepted before a
drain began is answered within ``drain_seconds`` or cancelled.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import uvloop

from services.chassis import garbage, logs, tasks, tls
from services.chassis.config import ServiceSettings
from services.chassis.credentials import Authenticator
from services.chassis.errors import Unstartable
from services.chassis.lifecycle import (
    Registration,
    Serving,
    assembled,
    drain,
    open_servers,
    write_run_file,
)
from services.chassis.runtime import Runtime

__all__ = ["Registration", "Serving", "run", "running"]

Build = Callable[[Runtime], AbstractAsyncContextManager[list[Registration]]]


def run(settings: ServiceSettings, *, name: str, build: Build, authenticator: Authenticator | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then drain and exit (0; 1 if it cannot start or a background task failed)."""
    try:
        status = uvloop.run(_serve(settings, name, build, authenticator))
    except Unstartable as why:
        logs.logger(name).error("cannot_start", why=str(why))
        status = 1
    sys.exit(status)


async def _serve(settings: ServiceSettings, name: str, build: Build, authenticator: Authenticator | None) -> int:
    log = logs.configure(name, settings.log_level)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    tasks.tell_on_signal(log)
    async with running(settings, name=name, build=build, authenticator=authenticator, log=log) as server:
        garbage.set_apart()
        log.info("serving", pid=os.getpid(), listen=server.listen, admin=server.admin_listen)
        failed = server.runtime.background.failed
        waits = [asyncio.ensure_future(event.wait()) for event in (stop, failed)]
        with garbage.pauses_observed(server.runtime.metrics):
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        log.info("draining", in_flight=server.layers.admission.in_flight)
    return 1 if failed.is_set() else 0


@asynccontextmanager
async def running(
    settings: ServiceSettings,
    *,
    name: str,
    build: Build,
    authenticator: Authenticator | None = None,
    log: logs.Log | None = None,
) -> AsyncIterator[Serving]:
    """A served service inside the block; leaving the block drains it.  Tests use this with port 0."""
    tls.require_secure(settings, settings.listen, settings.admin_listen, settings.metrics_listen)
    log = log or logs.logger(name)
    async with assembled(settings, name, authenticator, log) as runtime, build(runtime) as registrations:
        server = await open_servers(runtime, registrations)
        try:
            if not runtime.health.touched:
                await runtime.health.set(True)
            write_run_file(server)
            yield server
        finally:
            settings.run_file.unlink(missing_ok=True)
            await drain(server)
