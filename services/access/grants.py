"""What a principal may hand on to another: never more than it has."""

from services.chassis.context import RequestContext, Role

# Admin alone makes admins and services.
_GRANTS = {
    Role.OWNER: frozenset({Role.VIEWER, Role.MEMBER, Role.DEVELOPER, Role.OWNER}),
    Role.ADMIN: frozenset(Role),
}


def beyond(asking: RequestContext, roles: frozenset[Role]) -> frozenset[Role]:
    """Those of the roles that the caller may not hand on."""
    return roles - frozenset[Role]().union(*(_GRANTS.get(role, frozenset()) for role in asking.roles))
