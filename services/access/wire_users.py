"""Between protobuf and users."""

from collections.abc import Iterable

from trivium.access.v1 import user_pb2

from services.access import wire
from services.access.tenants import tenant_asked_for
from services.access.users import Change, NewUser, User
from services.chassis.context import RequestContext


def user(value: User) -> user_pb2.User:
    """A user as the API shows it."""
    return user_pb2.User(
        user=value.user,
        tenant=value.tenant,
        issuer=value.issuer,
        subject=value.subject,
        display_name=value.display_name,
        roles=wire.roles(value.roles),
        projects=value.projects,
        create_time=wire.time(value.created_at),
        disabled=value.disabled,
    )


def users(values: Iterable[User]) -> list[user_pb2.User]:
    """Users in their order."""
    return [user(value) for value in values]


def new_user(asking: RequestContext, request: user_pb2.CreateUserRequest) -> NewUser:
    """What a request wants of a new user."""
    return NewUser(
        tenant=tenant_asked_for(asking, request.tenant),
        issuer=request.issuer,
        subject=request.subject,
        display_name=request.display_name,
        roles=wire.of_roles(request.roles),
        projects=tuple(request.projects),
    )


def change(request: user_pb2.UpdateUserRequest) -> Change:
    """What a request wants changed."""
    return Change(
        display_name=request.display_name if request.HasField("display_name") else None,
        roles=wire.of_roles(request.roles.roles) if request.HasField("roles") else None,
        projects=tuple(request.projects.projects) if request.HasField("projects") else None,
        disabled=request.disabled if request.HasField("disabled") else None,
    )
