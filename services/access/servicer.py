"""The RPCs of access: wire to domain, call, domain to wire."""

from typing import Any

from trivium.access.v1 import access_pb2 as pb
from trivium.access.v1 import access_pb2_grpc

from services.access import wire, wire_audit, wire_metering, wire_policies
from services.access.tenants import tenant_asked_for
from services.access.verbs import Verbs
from services.chassis import paging
from services.chassis.context import current
from services.chassis.idempotency import key_for


class AccessServicer(access_pb2_grpc.AccessServiceServicer):
    """Serves the verbs."""

    def __init__(self, verbs: Verbs) -> None:
        self._do = verbs

    async def ExchangeKey(self, request: pb.ExchangeKeyRequest, context: Any) -> pb.ExchangeKeyResponse:
        return pb.ExchangeKeyResponse(assertion=wire.assertion(await self._do.exchange.exchange(request.api_key)))

    async def ExchangeToken(self, request: pb.ExchangeTokenRequest, context: Any) -> pb.ExchangeTokenResponse:
        return pb.ExchangeTokenResponse(assertion=wire.assertion(await self._do.exchange.sign_in(request.token)))

    async def IssueAssertion(self, request: pb.IssueAssertionRequest, context: Any) -> pb.IssueAssertionResponse:
        issued = await self._do.exchange.act_for(current(), request.tenant, request.on_behalf_of, wire.rights(request))
        return pb.IssueAssertionResponse(assertion=wire.assertion(issued))

    async def GetSigningKeys(self, request: pb.GetSigningKeysRequest, context: Any) -> pb.GetSigningKeysResponse:
        return wire.signing_keys(self._do.signing.public(), await self._do.revocations.current())

    async def WhoAmI(self, request: pb.WhoAmIRequest, context: Any) -> pb.WhoAmIResponse:
        me = current()
        return pb.WhoAmIResponse(
            principal=me.principal_id,
            tenant=me.tenant_id,
            roles=wire.roles(me.roles),
            project=me.project,
            scopes=wire.scopes(me.scopes),
        )

    async def CreateTenant(self, request: pb.CreateTenantRequest, context: Any) -> pb.CreateTenantResponse:
        tenant = await self._do.tenants.create(current(), request.tenant, request.display_name, key_for(request))
        return pb.CreateTenantResponse(tenant=wire.tenant(tenant))

    async def GetTenant(self, request: pb.GetTenantRequest, context: Any) -> pb.GetTenantResponse:
        tenant = await self._do.tenants.get(tenant_asked_for(current(), request.tenant))
        return pb.GetTenantResponse(tenant=wire.tenant(tenant))

    async def ListTenants(self, request: pb.ListTenantsRequest, context: Any) -> pb.ListTenantsResponse:
        size = paging.size_of(request.page_size)
        (after,) = paging.decode(request.page_token, [str]) or ("",)
        found = await self._do.tenants.page(str(after), size + 1)
        more = paging.encode([found[size - 1].tenant]) if len(found) > size else ""
        return pb.ListTenantsResponse(tenants=[wire.tenant(item) for item in found[:size]], next_page_token=more)

    async def DisableTenant(self, request: pb.DisableTenantRequest, context: Any) -> pb.DisableTenantResponse:
        return pb.DisableTenantResponse(tenant=wire.tenant(await self._do.tenants.disable(current(), request.tenant)))

    async def CreateKey(self, request: pb.CreateKeyRequest, context: Any) -> pb.CreateKeyResponse:
        key, text = await self._do.keys.create(current(), wire.new_key(current(), request), key_for(request))
        return pb.CreateKeyResponse(key=wire.key(key), api_key=text)

    async def ListKeys(self, request: pb.ListKeysRequest, context: Any) -> pb.ListKeysResponse:
        size = paging.size_of(request.page_size)
        tenant = tenant_asked_for(current(), request.tenant)
        before = paging.decode(request.page_token, [int, str], tenant)
        found = await self._do.keys.page(tenant, None if before is None else (int(before[0]), str(before[1])), size + 1)
        more = ""
        if len(found) > size:
            more = paging.encode([found[size - 1].created_at, found[size - 1].key], tenant)
        return pb.ListKeysResponse(keys=[wire.key(item) for item in found[:size]], next_page_token=more)

    async def RevokeKey(self, request: pb.RevokeKeyRequest, context: Any) -> pb.RevokeKeyResponse:
        return pb.RevokeKeyResponse(key=wire.key(await self._do.keys.revoke(current(), request.key)))

    async def GetQuota(self, request: pb.GetQuotaRequest, context: Any) -> pb.GetQuotaResponse:
        quota = await self._do.quotas.get(tenant_asked_for(current(), request.tenant))
        return pb.GetQuotaResponse(quota=wire_metering.quota(quota))

    async def UpdateQuota(self, request: pb.UpdateQuotaRequest, context: Any) -> pb.UpdateQuotaResponse:
        wanted = wire_metering.of_quota(request.quota)
        quota = await self._do.quotas.update(current(), request.tenant, wanted)
        return pb.UpdateQuotaResponse(quota=wire_metering.quota(quota))

    async def RotateKey(self, request: pb.RotateKeyRequest, context: Any) -> pb.RotateKeyResponse:
        made, text, replaced = await self._do.keys.rotate(
            current(), request.key, wire.overlap_seconds(request), key_for(request)
        )
        return pb.RotateKeyResponse(key=wire.key(made), api_key=text, replaced=wire.key(replaced))

    async def CreateProject(self, request: pb.CreateProjectRequest, context: Any) -> pb.CreateProjectResponse:
        made = await self._do.projects.create(current(), request.project, request.display_name, key_for(request))
        return pb.CreateProjectResponse(project=wire.project(made))

    async def ListProjects(self, request: pb.ListProjectsRequest, context: Any) -> pb.ListProjectsResponse:
        size = paging.size_of(request.page_size)
        (after,) = paging.decode(request.page_token, [str]) or ("",)
        found = await self._do.projects.page(current().tenant_id, str(after), size + 1)
        more = paging.encode([found[size - 1].project]) if len(found) > size else ""
        return pb.ListProjectsResponse(projects=[wire.project(item) for item in found[:size]], next_page_token=more)

    async def DeleteProject(self, request: pb.DeleteProjectRequest, context: Any) -> pb.DeleteProjectResponse:
        await self._do.projects.delete(current(), request.project)
        return pb.DeleteProjectResponse()

    async def GetPolicy(self, request: pb.GetPolicyRequest, context: Any) -> pb.GetPolicyResponse:
        return pb.GetPolicyResponse(policy=wire_policies.policy(await self._do.policies.get(request.tenant)))

    async def UpdatePolicy(self, request: pb.UpdatePolicyRequest, context: Any) -> pb.UpdatePolicyResponse:
        wanted = wire_policies.of_policy(request.policy)
        policy = await self._do.policies.update(current(), request.tenant, wanted)
        return pb.UpdatePolicyResponse(policy=wire_policies.policy(policy))

    async def RecordUsage(self, request: pb.RecordUsageRequest, context: Any) -> pb.RecordUsageResponse:
        await self._do.usage.record(wire.usage(request.record))
        return pb.RecordUsageResponse()

    async def ListUsage(self, request: pb.ListUsageRequest, context: Any) -> pb.ListUsageResponse:
        size = paging.size_of(request.page_size)
        found = await self._do.usage.page(current().tenant_id, paging.number(request.page_token), size + 1)
        more = paging.encode([found[size - 1].sequence]) if len(found) > size else ""
        return pb.ListUsageResponse(records=[wire.usage_record(item) for item in found[:size]], next_page_token=more)

    async def GetReceipt(self, request: pb.GetReceiptRequest, context: Any) -> pb.GetReceiptResponse:
        packed = await self._do.usage.receipt(current().tenant_id, request.request_id)
        return pb.GetReceiptResponse(receipt=wire.receipt(packed))

    async def ListAuditEvents(self, request: pb.ListAuditEventsRequest, context: Any) -> pb.ListAuditEventsResponse:
        size = paging.size_of(request.page_size)
        tenant = tenant_asked_for(current(), request.tenant)
        before = paging.number(request.page_token)
        found = await self._do.audit.page(tenant, wire_audit.wanted(request), before, size + 1)
        more = paging.encode([found[size - 1].sequence]) if len(found) > size else ""
        return pb.ListAuditEventsResponse(
            events=[wire_audit.event(item) for item in found[:size]], next_page_token=more
        )

    async def VerifyAudit(self, request: pb.VerifyAuditRequest, context: Any) -> pb.VerifyAuditResponse:
        tenant = tenant_asked_for(current(), request.tenant)
        return wire_audit.verified(await self._do.audit.verify(tenant, request.known_sequence, request.known_hash))
