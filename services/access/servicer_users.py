"""The RPCs of users: wire to domain, call, domain to wire."""

from typing import Any

from trivium.access.v1 import user_pb2 as pb
from trivium.access.v1 import user_pb2_grpc

from services.access import wire_users as wire
from services.access.tenants import tenant_asked_for
from services.access.verbs import Verbs
from services.chassis import paging
from services.chassis.context import current
from services.chassis.idempotency import key_for

USER_SERVICE = "trivium.access.v1.UserService"


class UserServicer(user_pb2_grpc.UserServiceServicer):
    """Serves the verbs on users."""

    def __init__(self, verbs: Verbs) -> None:
        self._do = verbs

    async def CreateUser(self, request: pb.CreateUserRequest, context: Any) -> pb.CreateUserResponse:
        made = await self._do.users.create(current(), wire.new_user(current(), request), key_for(request))
        return pb.CreateUserResponse(user=wire.user(made))

    async def GetUser(self, request: pb.GetUserRequest, context: Any) -> pb.GetUserResponse:
        return pb.GetUserResponse(user=wire.user(await self._do.users.get(current(), request.user)))

    async def ListUsers(self, request: pb.ListUsersRequest, context: Any) -> pb.ListUsersResponse:
        size = paging.size_of(request.page_size)
        tenant = tenant_asked_for(current(), request.tenant)
        (after,) = paging.decode(request.page_token, [str], tenant) or ("",)
        found = await self._do.users.page(tenant, str(after), size + 1)
        more = paging.encode([found[size - 1].user], tenant) if len(found) > size else ""
        return pb.ListUsersResponse(users=wire.users(found[:size]), next_page_token=more)

    async def UpdateUser(self, request: pb.UpdateUserRequest, context: Any) -> pb.UpdateUserResponse:
        changed = await self._do.users.update(current(), request.user, wire.change(request))
        return pb.UpdateUserResponse(user=wire.user(changed))

    async def DeleteUser(self, request: pb.DeleteUserRequest, context: Any) -> pb.DeleteUserResponse:
        await self._do.users.delete(current(), request.user)
        return pb.DeleteUserResponse()
