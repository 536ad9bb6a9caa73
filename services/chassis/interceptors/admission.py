"""Admission before allocation: a call that would be one too many is refused before it is parsed.

Refusals are cheap and carry a retry hint, so overload sheds instead of queueing.
Invariant: a permit that was taken is given back exactly once, whatever the call raises.
"""

import asyncio
from contextlib import suppress
from functools import partial

from services.chassis.config import ServiceSettings
from services.chassis.errors import Failure, Reason
from services.chassis.interceptors.call import Call, Proceed

_RETRY_SECONDS = 1.0
# How long a call that is ended may still write its last message.
_WRITE_SECONDS = 1.0


class AdmissionLayer:
    """Counts calls in flight: of the process (:meth:`at_the_door`), of each tenant, and streams of each tenant.

    A service credential acts for everybody and is bound by the process's limit alone.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self._inside = 0
        self._calls = 0
        self._unary: dict[str, int] = {}
        self._streams: dict[str, int] = {}
        self._watches: dict[asyncio.Task[object], Call] = {}
        self._others: dict[asyncio.Task[object], Call] = {}
        self._draining = False
        self._idle = asyncio.Event()

    @property
    def in_flight(self) -> int:
        """Calls that hold a permit now."""
        return self._calls

    async def at_the_door(self, proceed: Proceed, call: Call) -> None:
        """Refuse what is one too many of all before anybody is asked who its caller is.

        A full server that first asked access would answer for access: that it cannot be reached in time.
        """
        if self._inside >= self._settings.max_calls:
            raise Failure(Reason.OVERLOADED, retry_after_seconds=_RETRY_SECONDS, limit=self._settings.max_calls)
        self._inside += 1
        try:
            await proceed(call)
        finally:
            self._inside -= 1

    async def __call__(self, proceed: Proceed, call: Call) -> None:
        """Take a permit or refuse at once."""
        if self._draining:
            raise Failure(Reason.DRAINING, retry_after_seconds=_RETRY_SECONDS)
        tenant = call.identity.tenant_id if call.identity else ""
        streams = call.method.streams
        held = self._streams if streams else self._unary
        now_held = held.get(tenant, 0)
        if tenant:
            self._check_tenant(now_held, streams)
        self._calls += 1
        held[tenant] = now_held + 1
        try:
            await self._endable(proceed, call, self._watches if call.method.policy.long_lived else self._others)
        finally:
            self._calls -= 1
            left = held[tenant] - 1
            if left:
                held[tenant] = left
            else:
                del held[tenant]
            if self._draining and not self._calls:
                self._idle.set()

    def _check_tenant(self, held: int, streams: bool) -> None:
        settings = self._settings
        limit = settings.max_streams_per_tenant if streams else settings.max_calls_per_tenant
        if held >= limit:
            reason = Reason.TENANT_STREAMS_EXHAUSTED if streams else Reason.TENANT_CALLS_EXHAUSTED
            raise Failure(reason, retry_after_seconds=_RETRY_SECONDS, limit=limit)

    async def _endable(self, proceed: Proceed, call: Call, kind: dict[asyncio.Task[object], Call]) -> None:
        """The rest of a call, which we may end meanwhile: its caller then hears that the server shuts down."""
        task = asyncio.current_task()
        assert task is not None
        kind[task] = call
        try:
            await proceed(call)
        except asyncio.CancelledError:
            if self._draining and task not in kind:
                task.uncancel()
                raise Failure(Reason.DRAINING, retry_after_seconds=_RETRY_SECONDS) from None
            raise
        finally:
            kind.pop(task, None)

    def drain(self) -> None:
        """Refuse every new call from now on and end the watches: their callers resume elsewhere from their cursors."""
        self._draining = True
        if not self._calls:
            self._idle.set()
        _end(self._watches)

    def end(self) -> None:
        """End what the drain has waited for in vain.  Each still tells its caller so."""
        _end(self._others)

    async def emptied(self, within_seconds: float) -> bool:
        """Wait until no call is in flight.  False when that took longer than ``within_seconds``."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_seconds):
                await self._idle.wait()
        return self._idle.is_set()


def _end(calls: dict[asyncio.Task[object], Call]) -> None:
    """Cancel calls.  One that writes a message is cancelled after the write, or after a second: gRPC accepts a status only then."""
    for task, call in list(calls.items()):
        cancel = partial(_cancel, calls, task)
        if call.is_writing:
            call.after_write = cancel
            # The write does not end where the caller reads nothing.
            asyncio.get_running_loop().call_later(_WRITE_SECONDS, cancel)
        else:
            cancel()


def _cancel(calls: dict[asyncio.Task[object], Call], task: asyncio.Task[object]) -> None:
    if calls.pop(task, None) is not None:
        task.cancel()
