"""The record of what an answer was made of: checked against the route, then kept by access.

Invariants: an answer whose weights are not those that the name resolved to is never
presented as one (promise 4).  A receipt is durable before its answer is declared finished,
unless access cannot be reached: then the answer is given all the same, because it has been
computed and is right, and the receipt waits on this gateway's own disk, is tried again in
the background, and after a death of the process by the next one.

A request id that comes again is answered again, with the same seed, and that counts again, the same
answer or another one: it is recorded beside the first, under an id that follows from what is recorded,
so that no id is a way around a budget, and what is given to access twice counts once.  Where nobody
waits and a service asks again after a crash, access takes the same answer for the same record.  What a
request used that was cancelled, or whose answer broke off, stands beside it, too.
"""

import asyncio
import hashlib
import json
import secrets
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Protocol

from gateway.generation import Basis, Receipt, Sampling
from gateway.limits.gate import used
from gateway.routing import Route
from services.chassis.context import current_or_none
from services.chassis.errors import Code, Failure, Reason
from services.chassis.logs import Log

# How long an answer's end may wait for access: of an access that dies or hangs nobody hears later than a second after.
RECORD_SECONDS = 0.8
# About 1 KB of disk each.
MAX_WAITING = 100_000
# Receipts that are given to access, or kept on the disk, together.
_BATCH = 256
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_PASSING = {Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED, Code.ABORTED}
# What access says of the receipts themselves.
_FOR_GOOD = {Code.INVALID_ARGUMENT, Code.OUT_OF_RANGE}
# Batches at fault that are taken apart in one go: where access takes nothing, so many calls are for nothing.
_MOST_APART = 16
# Access keeps no longer ids.
_LONGEST_ID = 128
_AGAIN_IDS = uuid.UUID("e75e4dc7-2420-4ecc-82ac-0a9c4e618c15")


@dataclass(frozen=True, slots=True)
class Waiting:
    """A receipt on its way to access.

    ``unattended`` says that nobody waits for the answer: a service asked, and asks again under the id after a crash.
    """

    tenant: str
    principal: str
    method: str
    receipt: Receipt
    project: str = ""
    unattended: bool = False


class Ledger(Protocol):
    """Access as the gateway uses it.  Raises Failure."""

    async def record(self, batch: Sequence[Waiting]) -> list[str]:
        """Keep receipts, each once for its request id; the reason why each was refused, empty where it is kept."""

    async def receipt(self, request_id: str) -> Receipt:
        """The receipt of an earlier request of the caller's tenant.  Raises RECEIPT_NOT_FOUND."""


def seeded(sampling: Sampling, request_id: str) -> Sampling:
    """``sampling`` with a seed: the caller's, else one that the request id determines.

    So a replayed request draws the same random numbers.  31 bits: every generator takes them.
    """
    if sampling.seed is not None:
        return sampling
    digest = hashlib.sha256(request_id.encode()).digest()
    return replace(sampling, seed=int.from_bytes(digest[:4], "big") >> 1)


def beside(request_id: str, mark: str) -> str:
    """An id beside a request's, for what else was generated under it."""
    return f"{request_id[: _LONGEST_ID - len(mark) - 1]}~{mark}"


def again(waiting: Waiting) -> Waiting:
    """A record whose id another one has, under an id of its own.

    The same for what access takes for the same, also after a crash: numbers are as the wire carried them here.
    """
    receipt = waiting.receipt
    if waiting.unattended and receipt.prompt_tokens_digest:
        usage = replace(receipt.usage, cached_prompt_tokens=0)
        receipt = replace(receipt, usage=usage, complete_time_seconds=0.0, engine="", engine_slot=0, collections=())
    content = json.dumps([waiting.principal, waiting.method, waiting.project, asdict(receipt)], sort_keys=True)
    mark = f"again-{uuid.uuid5(_AGAIN_IDS, content)}"
    return replace(waiting, receipt=replace(waiting.receipt, request_id=beside(waiting.receipt.request_id, mark)))


def attested(receipt: Receipt, route: Route, request_id: str, basis: Basis) -> Receipt:
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
    # Of a base the generator knows more names than one, and which of them is the default's.
    told = "" if route.version else receipt.resolved_model
    return replace(
        receipt,
        request_id=request_id,
        requested_model=route.requested,
        resolved_model=told or route.resolved,
        sources=basis.sources,
        collections=basis.collections,
    )


class Spool(Protocol):
    """Where receipts wait, a batch under each name; it outlives the process."""

    async def keep(self, batch: Sequence[Waiting]) -> None:
        """Durable when this returns.  Raises DISK_FULL, OSError."""

    async def names(self) -> list[str]:
        """What waits, oldest first."""

    async def waiting(self) -> int:
        """How many receipts wait."""

    async def read(self, name: str) -> list[Waiting] | None:
        """What waits under a name; None when it cannot be read."""

    async def forget(self, name: str) -> None:
        """Take it out."""


class Recorder:
    """Gives receipts to access, all that ended meanwhile in one call: at once, or again and again in the background."""

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
        self._ended: deque[tuple[Waiting, asyncio.Future[None]]] = deque()
        self._called = asyncio.Event()
        self._away = False
        self._woken = asyncio.Event()

    async def record(self, tenant: str, principal: str, method: str, receipt: Receipt, project: str = "") -> None:
        """Wait until the receipt is durable.  Raises nothing but cancellation, and is then recorded all the same."""
        used(receipt)
        caller = current_or_none()
        unattended = caller is not None and bool(caller.actor)
        # Who leaves meanwhile ends the waiting and not the record.
        await asyncio.shield(self.enter(Waiting(tenant, principal, method, receipt, project, unattended)))

    def record_cancelled(self, tenant: str, principal: str, method: str, receipt: Receipt, project: str = "") -> None:
        """Leave to the background what a request used whose caller has gone, or whose answer broke off.

        The id may still be asked again and answered, so this stands under one that nobody asks.
        """
        used(receipt)
        request_id = beside(receipt.request_id, f"cancelled-{self._draw(10**12)}")
        self.enter(Waiting(tenant, principal, method, replace(receipt, request_id=request_id), project))

    def enter(self, waiting: Waiting) -> "asyncio.Future[None]":
        """Record, in the background, what is done when it is durable."""
        durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ended.append((waiting, durable))
        self._called.set()
        return durable

    def settled(self) -> "asyncio.Future[None]":
        """What is done when all is durable that was entered until now."""
        if self._ended:
            return self._ended[-1][1]
        nothing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        nothing.set_result(None)
        return nothing

    async def run(self) -> None:
        """Record what ends, and what waits on the disk, for as long as the server lives."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._record_what_ends())
                tasks.create_task(self._record_what_waits())
        finally:
            # What ended while the server did.
            left = [waiting for waiting, _ in self._ended]
            for begin in range(0, len(left), _BATCH):
                await self._later(left[begin : begin + _BATCH])

    async def _record_what_ends(self) -> None:
        while True:
            await self._called.wait()
            self._called.clear()
            while self._ended:
                # Still in the queue while it is on its way: a server that ends now finds it there.
                batch = list(islice(self._ended, _BATCH))
                await self._durable([waiting for waiting, _ in batch])
                for _, durable in batch:
                    self._ended.popleft()
                    if not durable.done():
                        durable.set_result(None)

    async def _durable(self, batch: Sequence[Waiting]) -> None:
        if self._away:
            # The background hears first when access is back; until then no answer's end waits for it.
            await self._later(batch)
            return
        try:
            async with asyncio.timeout(RECORD_SECONDS):
                await self._recorded(batch)
        except (TimeoutError, Failure) as error:
            why = error.reason.name if isinstance(error, Failure) else "timeout"
            self._log.warning("receipts_wait", receipts=len(batch), why=why)
            # A fault that access tells is of some of these, and no reason for others to wait.
            self._away = isinstance(error, TimeoutError) or error.code in _PASSING
            await self._later(batch)

    async def _later(self, batch: Sequence[Waiting]) -> None:
        try:
            if await self._spool.waiting() + len(batch) > MAX_WAITING:
                self._lost(batch, "too many receipts wait for access")
                return
            await self._spool.keep(batch)
        except (Failure, OSError) as error:
            self._lost(batch, str(error))
            return
        self._woken.set()

    def _lost(self, batch: Sequence[Waiting], why: str) -> None:
        # Without a receipt on the disk the background asks for nothing and hears nothing.
        self._away = False
        for waiting in batch:
            self._log.error("receipt_lost", request_id=waiting.receipt.request_id, why=why)

    async def _recorded(self, batch: Sequence[Waiting]) -> None:
        """Give a batch to access; what comes under another answer's id a second time, under its own.  Raises Failure."""
        reasons = await self._ledger.record(batch)
        reused = [reason == Reason.REQUEST_ID_REUSED.name for reason in reasons]
        self._refused(batch, ["" if known else reason for known, reason in zip(reused, reasons, strict=True)])
        others = [again(waiting) for waiting, known in zip(batch, reused, strict=True) if known]
        if others:
            reasons = await self._ledger.record(others)
            self._refused(others, reasons)
            for other, reason in zip(others, reasons, strict=True):
                if not reason:
                    self._log.info("request_id_reused", recorded_as=other.receipt.request_id)

    def _refused(self, batch: Sequence[Waiting], reasons: Sequence[str]) -> None:
        for waiting, reason in zip(batch, reasons, strict=True):
            if reason:
                self._log.error("receipt_refused", request_id=waiting.receipt.request_id, reason=reason)

    async def _record_what_waits(self) -> None:
        """Of an earlier process too."""
        while True:
            self._woken.clear()
            if await self._recorded_all():
                await self._woken.wait()
            else:
                await self._pause(_LONGEST_PAUSE_SECONDS)

    async def _recorded_all(self) -> bool:
        """Record what waits now; False where some of it met a fault that does not pass, and waits on."""
        faults, together = 0, list[str]()
        for name in await self._spool.names():
            batch = await self._spool.read(name)
            if batch is None:
                self._log.error("receipt_unreadable", name=name)
            elif await self._at_fault(batch):
                faults += 1
                if len(batch) > 1:
                    together.append(name)
                continue
            await self._spool.forget(name)
        # Only now, so that they hold up nothing else; and not always the same ones, where there are many.
        begin = self._draw(len(together)) if together else 0
        for name in (together[begin:] + together[:begin])[:_MOST_APART]:
            await self._taken_apart(name)
        return not faults

    async def _taken_apart(self, name: str) -> None:
        """Give the receipts of a batch to access one by one, so that only what is at fault waits on, each alone."""
        batch = await self._spool.read(name) or []
        left = [one for one in batch if await self._at_fault([one])]
        if len(left) == len(batch):
            # A fault of access itself.
            return
        try:
            for one in left:
                await self._spool.keep([one])
        except (Failure, OSError) as error:
            self._log.warning("receipts_wait", receipts=len(batch), why=str(error))
            return
        await self._spool.forget(name)

    async def _at_fault(self, batch: Sequence[Waiting]) -> bool:
        """Give a batch to access, once that is there and speaks; True where it is not done with."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                await self._recorded(batch)
            except Failure as failure:
                if failure.code in _PASSING:
                    await self._pause(pause)
                    pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
                    continue
                self._away = False
                if failure.code in _FOR_GOOD and len(batch) == 1:
                    self._refused(batch, [failure.reason.name])
                    return False
                # One of several, a fault of access, or a service key of ours that it does not take.
                self._log.error("receipts_wait", receipts=len(batch), why=failure.reason.name)
                return True
            self._away = False
            self._log.info("receipts_recorded_late", receipts=len(batch))
            return False
