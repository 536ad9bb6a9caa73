"""Tenants and keys."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from trivium.access.v1 import access_pb2 as pb
from trivium.access.v1.access_pb2_grpc import AccessServiceStub

from trivium_client import nouns, wire
from trivium_client.transport import Transport, new_request_id

if TYPE_CHECKING:
    from trivium.access.v1.access_pb2_grpc import AccessServiceAsyncStub


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
    ) -> nouns.ApiKey:
        """Create a key; its `secret` is shown this once.  Only role admin may name another tenant.

        `scopes` (inference, documents.read, models.write, ...) narrow what it may do; none of them does not.
        """
        request = pb.CreateKeyRequest(
            tenant=tenant,
            display_name=display_name,
            roles=wire.roles_to_wire(roles),
            request_id=new_request_id(),
            project=project,
            scopes=wire.scopes_to_wire(scopes),
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
        """A key that may do what this one may; this one works for the overlap still, a day where none is said."""
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
