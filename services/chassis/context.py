"""Who is asking, for which tenant, until when: the facts of the call that is being served.

Invariant: the tenant comes from the verified credential and from nowhere else;
code that needs it calls :func:`current`, never reads it from a request.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from enum import StrEnum

from services.chassis.errors import Failure, Reason


class Role(StrEnum):
    """What a principal may do; a key carries one or more.  The order is the ladder's; SERVICE stands beside it."""

    VIEWER = "viewer"
    MEMBER = "member"
    DEVELOPER = "developer"
    OWNER = "owner"
    ADMIN = "admin"
    SERVICE = "service"


_LADDER = (Role.VIEWER, Role.MEMBER, Role.DEVELOPER, Role.OWNER, Role.ADMIN)


def at_least(role: Role) -> frozenset[Role]:
    """A role of the ladder and those above it, each of which may do what it may."""
    return frozenset(_LADDER[_LADDER.index(role) :])


class Scope(StrEnum):
    """What a credential may be narrowed to; one with none is not narrowed."""

    INFERENCE = "inference"
    MODELS_READ = "models.read"
    MODELS_WRITE = "models.write"
    DOCUMENTS_READ = "documents.read"
    DOCUMENTS_WRITE = "documents.write"
    TRAINING_READ = "training.read"
    TRAINING_WRITE = "training.write"
    FILES_READ = "files.read"
    FILES_WRITE = "files.write"
    ACCOUNT_READ = "account.read"
    ACCOUNT_WRITE = "account.write"
    USAGE_READ = "usage.read"


# What a service finishes for somebody is never the management of a tenant.
_ACTING = (Role.DEVELOPER, Role.MEMBER, Role.VIEWER)


@dataclass(frozen=True, slots=True)
class Rights:
    """What a principal may do: its roles, and what narrows it, nothing where there are no scopes."""

    roles: frozenset[Role]
    scopes: frozenset[Scope] = frozenset()

    def to_act_with(self) -> "Rights":
        """Those of a service that acts for the principal: the same, but of owners and admins a developer's."""
        highest = next((role for role in _ACTING if not self.roles.isdisjoint(at_least(role))), None)
        return Rights(frozenset() if highest is None else frozenset({highest}), self.scopes)


@dataclass(slots=True)
class Bearer:
    """The assertion that outgoing calls carry; mutable so that long work can have it renewed."""

    token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Identity:
    """What a verified credential says.  ``expires_at`` is Unix time in seconds.

    ``actor`` names the service that acts with this identity to finish work accepted from it.
    ``scopes`` narrow it where there are some; ``project`` is the one of its key, empty without.  ``weight`` is the
    tenant's beside the others where there is less than all of them want, as its quota had it when this was issued.
    """

    tenant_id: str
    principal_id: str
    roles: frozenset[Role]
    assertion: str = field(default="", repr=False)
    expires_at: float = 0.0
    actor: str = ""
    scopes: frozenset[Scope] = frozenset()
    project: str = ""
    weight: int = 1


@dataclass(frozen=True, slots=True)
class RequestContext:
    """The facts of one call.  ``deadline_seconds`` is on the monotonic clock, None means no limit.

    ``weight`` is the caller's tenant's (:class:`Identity`); in background work 1, since nobody's assertion says one.
    """

    tenant_id: str
    principal_id: str
    roles: frozenset[Role]
    bearer: Bearer
    correlation_id: str
    deadline_seconds: float | None
    method: str
    traceparent: str = ""
    scopes: frozenset[Scope] = frozenset()
    project: str = ""
    actor: str = ""
    weight: int = 1

    @property
    def assertion(self) -> str:
        """The signed assertion that vouches for this tenant towards peers."""
        return self.bearer.token

    @property
    def rights(self) -> Rights:
        """What the caller may do."""
        return Rights(self.roles, self.scopes)

    def remaining_seconds(self) -> float | None:
        """Time left before the deadline (never negative), or None without one."""
        if self.deadline_seconds is None:
            return None
        return max(0.0, self.deadline_seconds - time.monotonic())

    def until(self, deadline_seconds: float) -> "RequestContext":
        """The same, with this deadline where it is the nearer one."""
        if self.deadline_seconds is not None and self.deadline_seconds <= deadline_seconds:
            return self
        return replace(self, deadline_seconds=deadline_seconds)

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


def require(*roles: Role) -> RequestContext:
    """Return the current call if its principal holds one of the roles, else raise ROLE_MISSING.

    For what depends on the request's content alone; what an RPC asks of everybody stands in its contract.
    """
    request = current()
    if not request.has(*roles):
        raise Failure(Reason.ROLE_MISSING, required=", ".join(sorted(roles)))
    return request
