"""Tenants stand apart; usage is recorded once and read back with its receipt."""

import uuid

from trivium.access.v1 import access_pb2 as pb
from trivium.common.v1 import receipt_pb2

from tests.stack import Stack, pages, refused


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


def test_usage_is_recorded_once_with_its_receipt(stack: Stack):
    tenant = stack.tenant()
    user = stack.access_api(stack.tenant_key(tenant, pb.ROLE_VIEWER))
    request_id = str(uuid.uuid4())
    for _ in range(2):
        user.RecordUsage(record(request_id))
    (kept,) = user.ListUsage(pb.ListUsageRequest()).records
    assert (kept.request_id, kept.tenant) == (request_id, tenant)
    assert kept.principal == user.WhoAmI(pb.WhoAmIRequest()).principal
    assert user.GetReceipt(pb.GetReceiptRequest(request_id=request_id)).receipt == record(request_id).record.receipt
    with refused("REQUEST_ID_REUSED"):
        user.RecordUsage(record(request_id, tokens=8))
    with refused("FIELD_INVALID"):
        user.RecordUsage(record(""))


def test_nobody_but_a_service_records_for_another(stack: Stack):
    tenant = stack.tenant()
    user = stack.access_api(stack.tenant_key(tenant, pb.ROLE_VIEWER))
    with refused("TENANT_NOT_FOUND"):
        user.RecordUsage(record(str(uuid.uuid4()), tenant=stack.tenant()))
    with refused("FIELD_INVALID"):
        user.RecordUsage(record(str(uuid.uuid4()), tenant=tenant, principal="somebody"))
    assert not user.ListUsage(pb.ListUsageRequest()).records


def test_a_service_records_for_a_tenant_and_others_do_not_see_it(stack: Stack):
    tenant, request_id = stack.tenant(), str(uuid.uuid4())
    stack.access_api(stack.key("service")).RecordUsage(record(request_id, tenant=tenant, principal="p"))
    (kept,) = stack.access_api(stack.tenant_key(tenant)).ListUsage(pb.ListUsageRequest()).records
    assert (kept.tenant, kept.principal) == (tenant, "p")
    other = stack.access_api(stack.tenant_key(stack.tenant()))
    for name in (request_id, str(uuid.uuid4())):
        with refused("RECEIPT_NOT_FOUND"):
            other.GetReceipt(pb.GetReceiptRequest(request_id=name))
    # The same id in another tenant is another request.
    other.RecordUsage(record(request_id, tokens=9))


def test_usage_is_listed_newest_first_in_pages(stack: Stack):
    user = stack.access_api(stack.tenant_key(stack.tenant()))
    ids = [str(uuid.uuid4()) for _ in range(5)]
    for request_id in ids:
        user.RecordUsage(record(request_id))

    def page(token: str):
        return user.ListUsage(pb.ListUsageRequest(page_size=2, page_token=token))

    assert [item.request_id for item in pages(page, "records")] == ids[::-1]
