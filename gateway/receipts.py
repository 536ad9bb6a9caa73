"""The record of what an answer was made of: checked against the route, then kept by access.

Invariants: an answer whose weights are not those that the name resolved to is never
presented as one (promise 4).  A receipt is durable before its answer is declared finished,
unless access cannot be reached: then the answer is given all the same, because it has been
computed and is right, and the receipt waits on this gateway's own disk, is tried again in
the background, and after a death of the process by the next one.

A replay of a request id computes the answer again, with the same seed, and is recorded once;
what a cancelled request used stands beside it, under an id of its own.
"""

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Protocol

from gateway.generation import Receipt, Sampling, SourceSpan
from gateway.routing import Route
from services.chassis.errors import Code, Failure, Reason
from services.chassis.logs import Log

# How long an answer's end may wait for its receipt to be durable.
RECORD_SECONDS = 2.0
# About 1 KB of disk each.
MAX_WAITING = 10_000
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_PASSING = {Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED, Code.ABORTED}


class Ledger(Protocol):
    """Access as the gateway uses it.  Raises Failure."""

    async def record(self, method: str, receipt: Receipt) -> None:
        """Keep a receipt for the current caller; once for each request id."""

    async def record_for(self, tenant: str, principal: str, method: str, receipt: Receipt) -> None:
        """The same outside of a request."""

    async def receipt(self, request_id: str) -> Receipt:
        """The receipt of an earlier request.  Raises RECEIPT_NOT_FOUND."""


def seeded(sampling: Sampling, request_id: str) -> Sampling:
    """``sampling`` with a seed: the caller's, else one that the request id determines.

    So a replayed request draws the same random numbers.  31 bits: every generator takes them.
    """
    if sampling.seed is not None:
        return sampling
    digest = hashlib.sha256(request_id.encode()).digest()
    return replace(sampling, seed=int.from_bytes(digest[:4], "big") >> 1)


def attested(receipt: Receipt, route: Route, request_id: str, sources: tuple[SourceSpan, ...]) -> Receipt:
    """The generator's receipt, completed with what only the gateway knows.

    Raises VERSION_MISMATCH when the weights that it read from the engine are not those
    that the request was routed to.
    """
    other_base = bool(route.base_digest) and receipt.base_digest != route.base_digest
    if receipt.version_digest != route.version or other_base:
        raise Failure(
            Reason.VERSION_MISMATCH,
            resolved=route.version or route.resolved,
            attested=receipt.version_digest or "the base alone",
            base=receipt.base_digest,
        )
    return replace(
        receipt,
        request_id=request_id,
        requested_model=route.requested,
        resolved_model=route.resolved,
        sources=sources,
    )


@dataclass(frozen=True, slots=True)
class Waiting:
    """A receipt that access did not take yet."""

    tenant: str
    principal: str
    method: str
    receipt: Receipt


class Spool(Protocol):
    """Where receipts wait, each under a name of its own; it outlives the process."""

    async def keep(self, waiting: Waiting) -> None:
        """Durable when this returns.  Raises DISK_FULL, OSError."""

    async def names(self) -> list[str]:
        """What waits, oldest first."""

    async def read(self, name: str) -> Waiting | None:
        """What waits under a name; None when it cannot be read."""

    async def forget(self, name: str) -> None:
        """Take it out."""


class Recorder:
    """Gives receipts to access: at once, or again and again in the background."""

    def __init__(
        self,
        ledger: Ledger,
        spool: Spool,
        log: Log,
        pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
        draw: Callable[[int], int] = secrets.randbelow,
    ) -> None:
        self._ledger = ledger
        self._spool = spool
        self._log = log
        self._pause = pause
        self._draw = draw
        self._woken = asyncio.Event()

    async def record(self, tenant: str, principal: str, method: str, receipt: Receipt) -> None:
        """Make the receipt durable, or leave it to the background.  Raises nothing but cancellation."""
        waiting = Waiting(tenant, principal, method, receipt)
        try:
            async with asyncio.timeout(RECORD_SECONDS):
                await self._ledger.record(method, receipt)
        except TimeoutError:
            await self._delayed(waiting, "timeout")
        except asyncio.CancelledError:
            # Whether access has it is unknown; being told twice changes nothing.
            await self._later(waiting)
            raise
        except Failure as failure:
            if failure.code in _PASSING:
                await self._delayed(waiting, failure.reason.name)
            else:
                self._refused(receipt.request_id, failure)

    async def record_cancelled(self, tenant: str, principal: str, method: str, receipt: Receipt) -> None:
        """Make what a request used durable whose caller has gone, and leave the rest to the background.

        The id may still be asked again and answered, so this stands under one that nobody asks.
        """
        request_id = f"{receipt.request_id}~cancelled-{self._draw(10**12)}"
        await self._later(Waiting(tenant, principal, method, replace(receipt, request_id=request_id)))

    async def _delayed(self, waiting: Waiting, why: str) -> None:
        self._log.warning("receipt_waits", request_id=waiting.receipt.request_id, why=why)
        await self._later(waiting)

    async def _later(self, waiting: Waiting) -> None:
        request_id = waiting.receipt.request_id
        try:
            if len(await self._spool.names()) >= MAX_WAITING:
                self._log.error("receipt_lost", request_id=request_id, why="too many receipts wait for access")
                return
            await self._spool.keep(waiting)
        except (Failure, OSError) as error:
            self._log.error("receipt_lost", request_id=request_id, why=str(error))
            return
        self._woken.set()

    def _refused(self, request_id: str, failure: Failure) -> None:
        self._log.error("receipt_refused", request_id=request_id, reason=failure.reason.name)

    async def run(self) -> None:
        """Record what waits, that of an earlier process included, for as long as the server lives."""
        while True:
            self._woken.clear()
            for name in await self._spool.names():
                waiting = await self._spool.read(name)
                if waiting is None:
                    self._log.error("receipt_unreadable", name=name)
                else:
                    await self._until_recorded(waiting)
                await self._spool.forget(name)
            await self._woken.wait()

    async def _until_recorded(self, waiting: Waiting) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                await self._ledger.record_for(waiting.tenant, waiting.principal, waiting.method, waiting.receipt)
            except Failure as failure:
                if failure.code not in _PASSING:
                    self._refused(waiting.receipt.request_id, failure)
                    return
                await self._pause(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
                continue
            self._log.info("receipt_recorded_late", request_id=waiting.receipt.request_id)
            return
