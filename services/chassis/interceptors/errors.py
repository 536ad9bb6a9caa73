"""Turns whatever a call raises into a status of the catalogue, and masks what is not of it.

Invariant: no text of an exception reaches a caller.  The caller gets a neutral
sentence and a correlation id; the log gets the exception under the same id.
"""

import asyncio
import time
from contextlib import suppress
from typing import Any

import grpc
from google.rpc import status_pb2

from services.chassis.errors import Code, Failure, Reason
from services.chassis.interceptors.call import EOF, Call, Proceed, ServicerContext
from services.chassis.logs import Log
from services.chassis.status import PeerFailure, from_rpc_error, to_status, to_trailers

CODES = {code.value[0]: code for code in grpc.StatusCode}
_READ_AWAY_SECONDS = 0.05
_READ_AWAY_MESSAGES = 16
# Answers of a peer that describe our caller's request or our common load, and so are passed on.
_NOT_OURS_TO_PASS = {Code.UNAUTHENTICATED, Code.UNKNOWN}


class ErrorsLayer:
    """Catches everything below it, once, for all four kinds of RPC."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def __call__(self, proceed: Proceed, call: Call) -> None:
        """Serve the call; answer what it raises."""
        try:
            await proceed(call)
        except asyncio.CancelledError:
            # The caller went away or its own deadline passed: nobody reads an answer.
            late = call.deadline is not None and time.monotonic() >= call.deadline
            call.status = "DEADLINE_EXCEEDED" if late else "CANCELLED"
            raise
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            await self._answer(call, error)

    async def _answer(self, call: Call, error: Exception) -> None:
        status = self.status_of(call, error)
        code = CODES[status.code]
        call.status = code.name
        trailers = to_trailers(status, call.correlation_id)
        if call.method.request_streams and call.method.over_grpc and not getattr(call.request, "ended", False):
            await _read_away(call.rpc)
        await call.rpc.abort(code, status.message, trailers)

    def status_of(self, call: Call, error: Exception) -> status_pb2.Status:
        """The status that answers ``error``; logs it when it is our own fault."""
        cause = innermost(error)
        subject = call.identity.tenant_id if call.identity else ""
        if isinstance(cause, grpc.RpcError):
            peer = from_rpc_error(cause)
            if peer.status is not None and peer.code not in _NOT_OURS_TO_PASS:
                return peer.status
            cause = self._of_peer(call, peer, cause)
        if isinstance(cause, Failure) and cause.code not in (Code.INTERNAL, Code.UNKNOWN):
            return to_status(cause, correlation_id=call.correlation_id, subject=subject)
        self._log.error(
            "call_failed",
            method=call.method.path,
            correlation_id=call.correlation_id,
            tenant_id=subject,
            exception=type(cause).__name__,
            exc_info=cause,
        )
        masked = Failure(Reason.INTERNAL, correlation_id=call.correlation_id)
        return to_status(masked, correlation_id=call.correlation_id, subject=subject)

    def _of_peer(self, call: Call, peer: PeerFailure, error: BaseException) -> BaseException:
        """A peer's answer that is not from the catalogue: transport trouble, or a bug between us."""
        if peer.code is Code.UNAVAILABLE:
            self._log.warning("peer_unavailable", method=call.method.path, correlation_id=call.correlation_id)
            return Failure(Reason.PEER_UNAVAILABLE, retry_after_seconds=1.0, service="behind this one")
        if peer.code is Code.DEADLINE_EXCEEDED:
            return Failure(Reason.DEADLINE_EXCEEDED)
        if peer.code is Code.CANCELLED:
            return Failure(Reason.CALL_CANCELLED)
        return error


async def _read_away(rpc: ServicerContext) -> None:
    """Let a caller that is still writing finish a little more before it is told.

    A client of grpc.aio whose write meets a finished call reports "Internal error from
    Core" instead of the status that the server sent.
    """
    with suppress(TimeoutError, grpc.aio.InternalError):
        async with asyncio.timeout(_READ_AWAY_SECONDS):
            for _ in range(_READ_AWAY_MESSAGES):
                message: Any = await rpc.read()
                if message is EOF:
                    return


def innermost(error: BaseException) -> BaseException:
    """The failure inside the groups that a TaskGroup raises: a Failure if there is one, else the first."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = [innermost(item) for item in error.exceptions]
    failures = [leaf for leaf in leaves if isinstance(leaf, Failure)]
    return (failures or leaves)[0]
