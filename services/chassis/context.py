"""Who is asking, for which tenant, until when: the facts of the call that is being served.

Invariant: the tenant comes from the verified credential and from nowhere else;
code that needs it calls :func:`current`, never reads it from a request.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum

from services.chassis.errors import Failure, Reason


class Role(StrEnum):
    """What a principal may do; a key carries one or more."""

    ADMIN = "admin"
    OWNER = "owner"
    MEMBER = "member"
    READER = "reader"
    SERVICE = "service"


@dataclass(slots=True)
class Bearer:
    """The assertion that outgoing calls carry; mutable so that long work can have it renewed."""

    token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Identity:
    """What a verified credential says.  ``expires_at`` is Unix time in seconds.

    ``actor`` names the service that acts with this identity to finish work accepted from it.
    """

    tenant_id: str
    principal_id: str
    roles: frozenset[Role]
    assertion: str = field(default="", repr=False)
    expires_at: float = 0.0
    actor: str = ""


@dataclass(frozen=True, slots=True)
class RequestContext:
    """The facts of one call.  ``deadline_seconds`` is on the monotonic clock, None means no limit."""

    tenant_id: str
    principal_id: str
    roles: frozenset[Role]
    bearer: Bearer
    correlation_id: str
    deadline_seconds: float | None
    method: str
    traceparent: str = ""

    @property
    def assertion(self) -> str:
        """The signed assertion that vouches for this tenant towards peers."""
        return self.bearer.token

    def remaining_seconds(self) -> float | None:
        """Time left before the deadline (never negative), or None without one."""
        if self.deadline_seconds is None:
            return None
        return max(0.0, self.deadline_seconds - time.monotonic())

    def has(self, *roles: Role) -> bool:
        """Whether the principal holds at least one of the roles."""
        return not self.roles.isdisjoint(roles)


_current: ContextVar[RequestContext | None] = ContextVar("trivium_request", default=None)


def current() -> RequestContext:
    """The call being served.  Raises RuntimeError outside of one: that is a bug, not a failure."""
    request = _current.get()
    if request is None:
        raise RuntimeError("no request is being served here; use runtime.acting_for(tenant) in background work")
    return request


def current_or_none() -> RequestContext | None:
    """The call being served, or None in background work."""
    return _current.get()


def enter(request: RequestContext) -> None:
    """Make ``request`` the current one for the rest of this task (a call has a task of its own)."""
    _current.set(request)


@contextmanager
def serving(request: RequestContext) -> Iterator[RequestContext]:
    """Make ``request`` the current one inside the block: background work, the HTTP edge, tests."""
    token = _current.set(request)
    try:
        yield request
    finally:
        _current.reset(token)


def require(*roles: Role | str) -> RequestContext:
    """Return the current call if its principal holds one of the roles, else raise ROLE_MISSING."""
    request = current()
    wanted = tuple(Role(role) for role in roles)
    if request.roles.isdisjoint(wanted):
        raise Failure(Reason.ROLE_MISSING, required=", ".join(wanted))
    return request
