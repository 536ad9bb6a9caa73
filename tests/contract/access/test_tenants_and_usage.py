"""Tenants stand apart; usage is recorded once and read back with its receipt."""

import uuid
from typing import Any

import pytest
from trivium.access.v1 import access_pb2 as pb
from trivium.common.v1 import receipt_pb2

from tests.stack import Api, Stack, pages, refused


def record(request_id: str, tokens: int = 7, **fields) -> pb.RecordUsageRequest:
    usage = receipt_pb2.Usage(prompt_tokens=tokens, completion_tokens=3)
    receipt = receipt_pb2.Receipt(request_id=request_id, version_digest="sha256:" + "a" * 64, usage=usage)
    return pb.RecordUsageRequest(record=pb.UsageRecord(method="/m", receipt=receipt, **fields))


def test_tenants_are_created_once_and_listed_in_pages(stack: Stack):
    admin = stack.access_api(stack.key("admin"))
    prefix, request_id = uuid.uuid4().hex[:8], str(uuid.uuid4())
    request = pb.CreateTenantRequest(tenant=f"{prefix}-0", display_name="Zero", request_id=request_id)
    assert admin.CreateTenant(request) == admin.CreateTenant(request)
    with refused("TENANT_EXISTS"):
        admin.CreateTenant(pb.CreateTenantRequest(tenant=f"{prefix}-0"))
    names = [stack.tenant(f"{prefix}-{number}") for number in (1, 2)]

    def page(token: str):
        return admin.ListTenants(pb.ListTenantsRequest(page_size=2, page_token=token))

    listed = [tenant.tenant for tenant in pages(page, "tenants")]
    assert [name for name in listed if name.startswith(prefix)] == [f"{prefix}-0", *names]
    assert listed == sorted(set(listed))
    assert admin.GetTenant(pb.GetTenantRequest(tenant=f"{prefix}-0")).tenant.display_name == "Zero"


def test_only_an_admin_sees_other_tenants(stack: Stack):
    mine, other = stack.tenant(), stack.tenant()
    owner = stack.access_api(stack.tenant_key(mine))
    assert owner.GetTenant(pb.GetTenantRequest()).tenant.tenant == mine
    messages = []
    for name in (other, "not-there"):
        with refused("TENANT_NOT_FOUND") as failures:
            owner.GetTenant(pb.GetTenantRequest(tenant=name))
        messages.append(failures[0].message.replace(name, "X"))
        with refused("TENANT_NOT_FOUND"):
            owner.ListKeys(pb.ListKeysRequest(tenant=name))
        with refused("TENANT_NOT_FOUND"):
            owner.CreateKey(pb.CreateKeyRequest(tenant=name, roles=[pb.ROLE_VIEWER]))
    assert len(set(messages)) == 1
    for call, request in (
        (owner.CreateTenant, pb.CreateTenantRequest(tenant="x")),
        (owner.ListTenants, pb.ListTenantsRequest()),
        (owner.DisableTenant, pb.DisableTenantRequest(tenant=mine)),
    ):
        with refused("ROLE_MISSING"):
            call(request)


def test_another_tenants_key_is_not_found(stack: Stack):
    theirs = stack.tenant_key(stack.tenant())
    owner = stack.access_api(stack.tenant_key(stack.tenant()))
    for key in (theirs.split("_")[1], "0" * 16):
        with refused("KEY_NOT_FOUND"):
            owner.RevokeKey(pb.RevokeKeyRequest(key=key))
    assert stack.access_api(theirs).WhoAmI(pb.WhoAmIRequest())


@pytest.fixture
def gateway(stack: Stack) -> Api:
    """Who records what callers used."""
    return stack.access_api(stack.key("service"))


def test_usage_is_recorded_once_with_its_receipt(stack: Stack, gateway: Api):
    tenant = stack.tenant()
    user = stack.access_api(stack.tenant_key(tenant, pb.ROLE_VIEWER))
    request_id = str(uuid.uuid4())
    whose: dict[str, Any] = {"tenant": tenant, "principal": "p"}
    for _ in range(2):
        gateway.RecordUsage(record(request_id, **whose))
    (kept,) = user.ListUsage(pb.ListUsageRequest()).records
    assert (kept.request_id, kept.tenant, kept.principal) == (request_id, tenant, "p")
    assert user.GetReceipt(pb.GetReceiptRequest(request_id=request_id)).receipt == record(request_id).record.receipt
    with refused("REQUEST_ID_REUSED"):
        gateway.RecordUsage(record(request_id, tokens=8, **whose))
    for nobodys in (record("", **whose), record(request_id), record(request_id, tenant=tenant)):
        with refused("FIELD_INVALID"):
            gateway.RecordUsage(nobodys)


@pytest.mark.parametrize("role", [pb.ROLE_VIEWER, pb.ROLE_OWNER, pb.ROLE_ADMIN])
def test_nobody_but_a_service_records_not_even_what_is_his_own(stack: Stack, role: "pb.Role.ValueType"):
    tenant = stack.tenant()
    user = stack.access_api(stack.tenant_key(tenant, role))
    me = user.WhoAmI(pb.WhoAmIRequest()).principal
    request_id = str(uuid.uuid4())
    for forged in (record(request_id), record(request_id, tenant=tenant, principal=me)):
        with refused("ROLE_MISSING"):
            user.RecordUsage(forged)
    assert not user.ListUsage(pb.ListUsageRequest()).records
    with refused("RECEIPT_NOT_FOUND"):
        user.GetReceipt(pb.GetReceiptRequest(request_id=request_id))


def test_a_service_records_for_a_tenant_and_others_do_not_see_it(stack: Stack, gateway: Api):
    tenant, request_id = stack.tenant(), str(uuid.uuid4())
    gateway.RecordUsage(record(request_id, tenant=tenant, principal="p"))
    (kept,) = stack.access_api(stack.tenant_key(tenant)).ListUsage(pb.ListUsageRequest()).records
    assert (kept.tenant, kept.principal) == (tenant, "p")
    stranger = stack.tenant()
    other = stack.access_api(stack.tenant_key(stranger))
    for name in (request_id, str(uuid.uuid4())):
        with refused("RECEIPT_NOT_FOUND"):
            other.GetReceipt(pb.GetReceiptRequest(request_id=name))
    # The same id in another tenant is another request.
    gateway.RecordUsage(record(request_id, tokens=9, tenant=stranger, principal="p"))
    with refused("TENANT_NOT_FOUND"):
        gateway.RecordUsage(record(request_id, tenant="nobody", principal="p"))


def test_usage_is_listed_newest_first_in_pages(stack: Stack, gateway: Api):
    tenant = stack.tenant()
    user = stack.access_api(stack.tenant_key(tenant))
    ids = [str(uuid.uuid4()) for _ in range(5)]
    for request_id in ids:
        gateway.RecordUsage(record(request_id, tenant=tenant, principal="p"))

    def page(token: str):
        return user.ListUsage(pb.ListUsageRequest(page_size=2, page_token=token))

    assert [item.request_id for item in pages(page, "records")] == ids[::-1]
