"""Tenants, users, projects and keys."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from trivium.access.v1 import access_pb2 as pb
from trivium.access.v1 import user_pb2
from trivium.access.v1.access_pb2_grpc import AccessServiceStub
from trivium.access.v1.user_pb2_grpc import UserServiceStub

from trivium_client import nouns, wire
from trivium_client.transport import Transport, new_request_id

if TYPE_CHECKING:
    from trivium.access.v1.access_pb2_grpc import AccessServiceAsyncStub
    from trivium.access.v1.user_pb2_grpc import UserServiceAsyncStub


class Keys:
    """API keys of a tenant."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _stub(self) -> AccessServiceAsyncStub:
        stub: AccessServiceAsyncStub = self._transport.stub("access", AccessServiceStub)
        return stub

    async def create(
        self,
        *,
        roles: Sequence[str] = ("developer",),
        display_name: str = "",
        tenant: str = "",
        project: str = "",
        scopes: Sequence[str] = (),
        expires: datetime | None = None,
        user: str = "",
    ) -> nouns.ApiKey:
        """Create a key; its `secret` is shown this once.  Only role admin may name another tenant.

        `scopes` (inference, documents.read, models.write, ...) narrow what it may do; none of them does not.
        The key of a `user` is refused while the user is disabled.
        """
        request = pb.CreateKeyRequest(
            tenant=tenant,
            display_name=display_name,
            roles=wire.roles_to_wire(roles),
            request_id=new_request_id(),
            project=project,
            scopes=wire.scopes_to_wire(scopes),
            user=user,
        )
        if expires is not None:
            request.expire_time.FromDatetime(expires)
        response = await self._transport.call("access", self._stub().CreateKey, request)
        return wire.api_key(response.key, response.api_key)

    async def list(self, tenant: str = "") -> AsyncIterator[nouns.ApiKey]:
        """The tenant's keys, newest first, without secrets."""
        request = pb.ListKeysRequest(tenant=tenant)
        while True:
            page = await self._transport.call("access", self._stub().ListKeys, request)
            for item in page.keys:
                yield wire.api_key(item)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def rotate(self, key: str, *, overlap_seconds: int | None = None) -> nouns.ApiKey:
        """A key that may do what this one may; this one works for the overlap still, a day where none is said.

        When that is over, this one is refused everywhere within a minute.
        """
        request = pb.RotateKeyRequest(key=key, overlap_seconds=overlap_seconds, request_id=new_request_id())
        response = await self._transport.call("access", self._stub().RotateKey, request)
        return wire.api_key(response.key, response.api_key)

    async def revoke(self, key: str) -> nouns.ApiKey:
        """Revoke a key by its id; it is refused everywhere within a minute."""
        response = await self._transport.call("access", self._stub().RevokeKey, pb.RevokeKeyRequest(key=key))
        return wire.api_key(response.key)


class Projects:
    """Labels under which the tenant groups keys and what they use."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _stub(self) -> AccessServiceAsyncStub:
        stub: AccessServiceAsyncStub = self._transport.stub("access", AccessServiceStub)
        return stub

    async def create(self, project: str, display_name: str = "") -> nouns.Project:
        """Create a project.  Raises ConflictError if it exists."""
        request = pb.CreateProjectRequest(project=project, display_name=display_name, request_id=new_request_id())
        response = await self._transport.call("access", self._stub().CreateProject, request)
        return nouns.Project(response.project.project, response.project.display_name)

    async def list(self) -> AsyncIterator[nouns.Project]:
        """The tenant's projects by id."""
        request = pb.ListProjectsRequest()
        while True:
            page = await self._transport.call("access", self._stub().ListProjects, request)
            for item in page.projects:
                yield nouns.Project(item.project, item.display_name)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def delete(self, project: str) -> None:
        """Delete a project whose keys are revoked; what was recorded under its name stays."""
        await self._transport.call("access", self._stub().DeleteProject, pb.DeleteProjectRequest(project=project))


class Users:
    """People of a tenant: they sign in with tokens of an issuer, hold keys, or both."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _stub(self) -> UserServiceAsyncStub:
        stub: UserServiceAsyncStub = self._transport.stub("access", UserServiceStub)
        return stub

    async def create(
        self,
        display_name: str = "",
        *,
        issuer: str = "",
        subject: str = "",
        roles: Sequence[str] = (),
        projects: Sequence[str] = (),
        tenant: str = "",
    ) -> nouns.User:
        """Create a user: whom an issuer's tokens call `subject`, or, without both, who holds keys alone.

        Raises ConflictError if there is one already.  Without `roles` those count that the issuer gives.
        """
        request = user_pb2.CreateUserRequest(
            tenant=tenant,
            issuer=issuer,
            subject=subject,
            display_name=display_name,
            roles=wire.roles_to_wire(roles),
            projects=projects,
            request_id=new_request_id(),
        )
        return wire.user((await self._transport.call("access", self._stub().CreateUser, request)).user)

    async def get(self, user: str) -> nouns.User:
        """One user by id.  Raises NotFoundError."""
        request = user_pb2.GetUserRequest(user=user)
        return wire.user((await self._transport.call("access", self._stub().GetUser, request)).user)

    async def list(self, tenant: str = "") -> AsyncIterator[nouns.User]:
        """The tenant's users by id."""
        request = user_pb2.ListUsersRequest(tenant=tenant)
        while True:
            page = await self._transport.call("access", self._stub().ListUsers, request)
            for item in page.users:
                yield wire.user(item)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def update(
        self,
        user: str,
        *,
        display_name: str | None = None,
        roles: Sequence[str] | None = None,
        projects: Sequence[str] | None = None,
        disabled: bool | None = None,
    ) -> nouns.User:
        """Change what is given; a disabled user and the user's keys are refused everywhere within a minute."""
        request = user_pb2.UpdateUserRequest(user=user, display_name=display_name, disabled=disabled)
        if roles is not None:
            request.roles.CopyFrom(user_pb2.UserRoles(roles=wire.roles_to_wire(roles)))
        if projects is not None:
            request.projects.CopyFrom(user_pb2.UserProjects(projects=projects))
        return wire.user((await self._transport.call("access", self._stub().UpdateUser, request)).user)

    async def delete(self, user: str) -> None:
        """Delete a user and revoke the user's keys; what was recorded under the id stays."""
        await self._transport.call("access", self._stub().DeleteUser, user_pb2.DeleteUserRequest(user=user))


class Tenants:
    """Customers of the deployment; role admin."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _stub(self) -> AccessServiceAsyncStub:
        stub: AccessServiceAsyncStub = self._transport.stub("access", AccessServiceStub)
        return stub

    async def create(self, tenant: str, display_name: str = "") -> str:
        """Create a tenant and return its id.  Raises ConflictError if it exists."""
        request = pb.CreateTenantRequest(tenant=tenant, display_name=display_name, request_id=new_request_id())
        response = await self._transport.call("access", self._stub().CreateTenant, request)
        return response.tenant.tenant

    async def disable(self, tenant: str) -> str:
        """Have all of a tenant's keys, users and tokens refused, within a minute, and return its id; what it owns stays.

        Nothing enables it again.  Raises NotFoundError, and PreconditionError for one by whose keys services work.
        """
        request = pb.DisableTenantRequest(tenant=tenant)
        response = await self._transport.call("access", self._stub().DisableTenant, request)
        return response.tenant.tenant

    async def list(self) -> AsyncIterator[str]:
        """Every tenant's id."""
        request = pb.ListTenantsRequest()
        while True:
            page = await self._transport.call("access", self._stub().ListTenants, request)
            for item in page.tenants:
                yield item.tenant
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token
