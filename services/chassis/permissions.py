"""What each RPC asks of its caller, read from the option that its contract declares.

Invariant: this is the one place that decides whether a caller may call, for every RPC of
every service and every door in front of it; an RPC that declares nothing is never served.
"""

from dataclasses import dataclass
from functools import cache
from typing import Protocol

from google.protobuf.descriptor import Descriptor, MethodDescriptor
from trivium.common.v1 import permission_pb2

from services.chassis.context import Role, Scope, at_least
from services.chassis.errors import Failure, Reason

_RANKS = {
    permission_pb2.RANK_VIEWER: Role.VIEWER,
    permission_pb2.RANK_MEMBER: Role.MEMBER,
    permission_pb2.RANK_DEVELOPER: Role.DEVELOPER,
    permission_pb2.RANK_OWNER: Role.OWNER,
    permission_pb2.RANK_ADMIN: Role.ADMIN,
}
_SCOPES = {permission_pb2.Scope.Value("SCOPE_" + scope.name): scope for scope in Scope}
_READ, _WRITE = ".read", ".write"
_NAMES = {scope.value for scope in Scope}


class Caller(Protocol):
    """Who asks: an identity, or the request that it makes."""

    @property
    def roles(self) -> frozenset[Role]:
        """Its roles."""

    @property
    def scopes(self) -> frozenset[Scope]:
        """What narrows it; nothing where there are none."""


@dataclass(frozen=True, slots=True)
class Permission:
    """What one RPC asks.  ``method`` is its path, ``/package.Service/Method``.

    ``action`` is what the chassis records of it, on ``resource``, whose braces hold names of fields; empty: nothing.
    """

    method: str
    roles: frozenset[Role] = frozenset()
    scopes: frozenset[Scope] = frozenset()
    public: bool = False
    changes_state: bool = False
    action: str = ""
    resource: str = ""

    def check(self, caller: Caller) -> None:
        """Raise ROLE_MISSING or SCOPE_MISSING unless the caller may call it."""
        if self.public:
            return
        if caller.roles.isdisjoint(self.roles):
            raise Failure(Reason.ROLE_MISSING, required=", ".join(sorted(self.roles)))
        if caller.scopes and self.scopes and caller.scopes.isdisjoint(self.scopes):
            raise Failure(Reason.SCOPE_MISSING, required=", ".join(sorted(self.scopes)))


@cache
def of_method(method: MethodDescriptor) -> Permission:
    """What the contract of an RPC declares.  Raises ValueError where it declares nothing."""
    service = method.containing_service.full_name
    options = method.GetOptions()
    if not options.HasExtension(permission_pb2.permission):
        raise ValueError(f"{service}/{method.name} declares no (trivium.common.v1.permission)")
    declared = options.Extensions[permission_pb2.permission]
    roles = at_least(_RANKS[declared.rank]) if declared.rank else frozenset[Role]()
    if declared.service:
        roles |= {Role.SERVICE}
    if declared.public == bool(roles):
        raise ValueError(f"{service}/{method.name} is for nobody, or public and for some")
    return Permission(
        method=f"/{service}/{method.name}",
        roles=roles,
        scopes=_with_writes(frozenset(_SCOPES[scope] for scope in declared.scopes)),
        public=declared.public,
        changes_state=declared.changes_state,
        action=declared.action,
        resource=declared.resource,
    )


@cache
def of_request(request: Descriptor) -> Permission:
    """What the RPC asks whose request this is, for doors that have no method of their own.

    Every RPC has a request of its own, in the file of its service.  Raises ValueError where none takes this one.
    """
    for service in request.file.services_by_name.values():
        for method in service.methods:
            if method.input_type is request:
                return of_method(method)
    raise ValueError(f"{request.full_name} is the request of no RPC")


def _with_writes(scopes: frozenset[Scope]) -> frozenset[Scope]:
    """Who may write may read."""
    writes = {scope.value.replace(_READ, _WRITE) for scope in scopes if scope.value.endswith(_READ)}
    return scopes | {Scope(name) for name in writes & _NAMES}
