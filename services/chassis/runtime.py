"""What the chassis hands a service: its settings, its peers, its threads, its background tasks.

Invariant: everything here lives as long as the server and is closed with it; a
background task that fails takes the process down (the supervisor restarts it)
rather than leaving half a service alive.
"""

import asyncio
import os
import random
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self, TypeVar

import grpc

from services.chassis.access import AccessClient
from services.chassis.auditing.trail import Trail
from services.chassis.channels import Channels
from services.chassis.config import ServiceSettings
from services.chassis.context import RequestContext, Rights, Role, serving
from services.chassis.credentials import Authenticator
from services.chassis.executor import Executor
from services.chassis.health import Health
from services.chassis.interceptors import Layers
from services.chassis.interceptors.context import new_traceparent
from services.chassis.logs import Log
from services.chassis.telemetry import Telemetry

T = TypeVar("T")
_DEVELOPERS = Rights(frozenset({Role.DEVELOPER}))


class Clock:
    """Time, injectable where a test moves it."""

    def now(self) -> datetime:
        """The present moment in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()


def new_id() -> str:
    """A new identifier: a UUID of version 7, so that ids sort by creation and indexes stay compact."""
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10), "big")
    value = (milliseconds & ((1 << 48) - 1)) << 80 | 0x7 << 76 | (random >> 68 & 0xFFF) << 64
    value |= 0b10 << 62 | (random & ((1 << 62) - 1))
    return str(uuid.UUID(int=value))


class Background:
    """The TaskGroup of a server, in a task of its own: its failure is seen by whoever waits for ``failed``."""

    def __init__(self, log: Log) -> None:
        self.failed = asyncio.Event()
        self._log = log
        self._open = asyncio.Event()
        self._close = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        self._main = asyncio.create_task(self._run(), name="background")
        await self._open.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._close.set()
        await self._main

    async def _run(self) -> None:
        try:
            async with asyncio.TaskGroup() as self._group:
                self._open.set()
                await self._close.wait()
                for task in self._tasks:
                    task.cancel()
        except* Exception as errors:
            for error in errors.exceptions:
                self._log.error("background_task_failed", exc_info=error)
            self.failed.set()

    def spawn(self, work: Coroutine[Any, Any, T], name: str | None = None) -> asyncio.Task[T]:
        """Run ``work`` until it ends or the server does (then it is cancelled)."""
        task = self._group.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


@dataclass(slots=True)
class Runtime:
    """One running server as its service sees it."""

    name: str
    settings: ServiceSettings
    log: Log
    metrics: Telemetry
    health: Health
    channels: Channels
    access: AccessClient
    # Around every call, whatever carries it: a second transport (the HTTP edge) hangs its methods in the same list.
    layers: Layers
    # Events of what is changed, on their way to access.
    trail: Trail
    executor: Executor
    background: Background
    clock: Clock = field(default_factory=Clock)
    new_id: Callable[[], str] = new_id
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    announced: dict[str, object] = field(default_factory=dict)

    @property
    def authenticator(self) -> Authenticator:
        """Who turns credentials into identities; access sets its own before it yields its registrations."""
        return self.layers.auth.authenticator

    @authenticator.setter
    def authenticator(self, authenticator: Authenticator) -> None:
        self.layers.auth.authenticator = authenticator

    def channel(self, service: str) -> grpc.aio.Channel:
        """The channel to a peer; its calls carry the current request's deadline, assertion and trace."""
        return self.channels.to(service)

    async def blocking(self, function: Callable[..., T], /, *arguments: object, **named: object) -> T:
        """Run blocking work in a thread.  Raises OVERLOADED when too much waits already."""
        return await self.executor.run(function, *arguments, **named)

    def spawn(self, work: Coroutine[Any, Any, T], name: str | None = None) -> asyncio.Task[T]:
        """Run a background task for as long as the server lives; if it raises, the server stops."""
        return self.background.spawn(work, name)

    def announce(self, **facts: object) -> None:
        """Add facts to the run file (the gateway's ``http_listen``).  Call before the service is ready."""
        self.announced.update(facts)

    @asynccontextmanager
    async def acting_for(
        self, tenant: str, *, on_behalf_of: str = "", rights: Rights | None = None
    ) -> AsyncIterator[RequestContext]:
        """Work for a tenant outside of any request, with an assertion that is renewed while the block lasts.

        ``rights`` are those of whom it is done for, a developer's where none are stated.  Raises what
        ``AccessClient.assertion_for`` does: Failures, no RpcError.
        """

        async def obtain() -> str:
            return await self.access.assertion_for(tenant, on_behalf_of, rights)

        granted = _DEVELOPERS if rights is None else rights.to_act_with()
        async with self.access.renewed(obtain) as bearer:
            with serving(self._work_context(tenant, on_behalf_of, granted, bearer)) as request:
                yield request

    @asynccontextmanager
    async def as_service(self) -> AsyncIterator[RequestContext]:
        """Work as the service itself (cross-tenant RPCs).  Raises NOT_READY without a service key."""
        async with self.access.renewed(self.access.own_assertion) as bearer:
            with serving(self._work_context("", "", Rights(frozenset({Role.SERVICE})), bearer)) as request:
                yield request

    def _work_context(self, tenant: str, principal: str, rights: Rights, bearer: Any) -> RequestContext:
        return RequestContext(
            tenant_id=tenant,
            principal_id=principal or f"services/{self.name}",
            roles=rights.roles,
            scopes=rights.scopes,
            bearer=bearer,
            correlation_id=self.new_id(),
            deadline_seconds=None,
            method="background",
            traceparent=new_traceparent(random.Random()),
        )
