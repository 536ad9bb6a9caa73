"""Whom a principal may make and end: nobody who may do more than it may hand on itself.

Invariant: whoever has a role that the caller may not hand on is neither made nor changed nor ended by it, since an end
takes as much as a grant gives: the services' key is a key of a tenant, and that tenant has owners.
"""

from services.chassis.context import RequestContext, Role
from services.chassis.errors import Failure, Reason

# Admin alone makes admins and services.
_GRANTS = {
    Role.OWNER: frozenset({Role.VIEWER, Role.MEMBER, Role.DEVELOPER, Role.OWNER}),
    Role.ADMIN: frozenset(Role),
}


def beyond(asking: RequestContext, roles: frozenset[Role]) -> frozenset[Role]:
    """Those of the roles that the caller may not hand on."""
    return roles - frozenset[Role]().union(*(_GRANTS.get(role, frozenset()) for role in asking.roles))


def require_within(asking: RequestContext, roles: frozenset[Role], reason: Reason, field: str) -> None:
    """Raise ``reason``, of the request's ``field``, where the caller may not hand on one of the roles."""
    more = beyond(asking, roles)
    if more:
        raise Failure(reason, field=field, roles=", ".join(sorted(more)))
