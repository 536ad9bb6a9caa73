"""Innermost of all, and only around what changes state: the change's event is durable before its answer leaves.

A call that was refused changed nothing and leaves no event: whoever may not, or names what is not there, is in the
logs, and could otherwise fill the audit log of a tenant for nothing.  A call that broke off, so that nobody knows
whether the change was made, leaves one that says how it ended.  The repeat of a request is an event too.
"""

import time
import uuid

import grpc
from trivium.access.v1 import audit_pb2

from services.chassis.auditing.naming import resource_name
from services.chassis.auditing.trail import Trail
from services.chassis.context import Role
from services.chassis.errors import Code, Failure
from services.chassis.interceptors.call import Call, Proceed
from services.chassis.interceptors.errors import innermost
from services.chassis.status import from_rpc_error

_DONE = "OK"
# With these a call ends in the middle; with the others it was refused before anything was changed.
_BROKEN_OFF = {
    Code.CANCELLED,
    Code.UNKNOWN,
    Code.DEADLINE_EXCEEDED,
    Code.INTERNAL,
    Code.UNAVAILABLE,
    Code.DATA_LOSS,
}


class AuditLayer:
    """Hung around the methods whose contract names an action."""

    def __init__(self, trail: Trail) -> None:
        self._trail = trail

    async def __call__(self, proceed: Proceed, call: Call) -> None:
        """Refuse what there is no room to record; record what was changed."""
        await self._trail.promise()
        try:
            await proceed(call)
        except BaseException as error:
            code = _code(error)
            if call.answer is not None or code in _BROKEN_OFF:
                # Nobody is told that it was done, so nobody waits.
                self._trail.enter(_event(call, code.name))
            else:
                self._trail.waive()
            raise
        await self._trail.enter(_event(call, _DONE))


def _code(error: BaseException) -> Code:
    cause = innermost(error)
    if isinstance(cause, Failure):
        return cause.code
    if isinstance(cause, grpc.RpcError):
        return from_rpc_error(cause).code
    # Cancelled by its caller or by its deadline; or a fault of ours.
    return Code.INTERNAL if isinstance(cause, Exception) else Code.CANCELLED


def _event(call: Call, outcome: str) -> bytes:
    permission, identity = call.permission, call.identity
    assert permission is not None
    assert identity is not None
    event = audit_pb2.Change(
        event_id=str(uuid.uuid4()),
        # A service's own key lies in some tenant, and what it does as itself concerns none.
        tenant="" if Role.SERVICE in identity.roles else identity.tenant_id,
        principal=identity.principal_id,
        actor=identity.actor,
        action=permission.action,
        method=call.method.path,
        resource=resource_name(permission.resource, call.answer, call.request),
        outcome=outcome,
        request_id=call.correlation_id,
    )
    event.time.FromNanoseconds(time.time_ns())
    return event.SerializeToString()
