"""Keys: made once, shown once, exchanged, revoked."""

import stat
import time
import uuid

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from google.protobuf.timestamp_pb2 import Timestamp
from trivium.access.v1 import access_pb2 as pb
from trivium.common.v1 import permission_pb2
from trivium.registry.v1 import registry_pb2

from tests.stack import Api, Stack, pages, refused


@pytest.fixture
def admin(stack: Stack) -> Api:
    return stack.access_api(stack.key("admin"))


def create(api: Api, *roles: "pb.Role.ValueType", **fields):
    return api.CreateKey(pb.CreateKeyRequest(roles=roles or (pb.ROLE_MEMBER,), **fields))


def test_the_first_start_writes_keys_that_only_their_owner_reads(stack: Stack):
    for name, roles in (("admin", {pb.ROLE_ADMIN, pb.ROLE_OWNER}), ("service", {pb.ROLE_SERVICE})):
        mode = (stack.data / "keys" / f"{name}.key").stat().st_mode
        assert stat.S_IMODE(mode) == 0o600
        me = stack.access_api(stack.key(name)).WhoAmI(pb.WhoAmIRequest())
        assert (me.tenant, set(me.roles)) == ("default", roles)
    for secret in [*(stack.data / "access" / "signing").iterdir(), stack.data / "access" / "hashing.key"]:
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600


def test_an_assertion_is_verified_by_the_published_key_and_lives_ten_minutes_at_most(stack: Stack, admin: Api):
    public = stack.access_api()
    assertion = public.ExchangeKey(pb.ExchangeKeyRequest(api_key=stack.key("admin"))).assertion
    key = next(iter(public.GetSigningKeys(pb.GetSigningKeysRequest()).keys))
    assert jwt.get_unverified_header(assertion.token) == {"alg": "EdDSA", "kid": key.key_id, "typ": "JWT"}
    claims = jwt.decode(assertion.token, Ed25519PublicKey.from_public_bytes(key.public_key), algorithms=["EdDSA"])
    assert (claims["iss"], claims["tid"], claims["roles"]) == ("trivium-access", "default", ["admin", "owner"])
    assert 0 < claims["exp"] - claims["iat"] <= 600
    assert claims["exp"] == assertion.expire_time.seconds
    assert stack.access_api(assertion.token).WhoAmI(pb.WhoAmIRequest()).principal == claims["sub"]


def test_every_bad_key_gets_the_same_answer(stack: Stack, admin: Api):
    tenant = stack.tenant()
    revoked = create(admin, tenant=tenant)
    admin.RevokeKey(pb.RevokeKeyRequest(key=revoked.key.key))
    soon = Timestamp(seconds=int(time.time()) - 1)
    expired = create(admin, tenant=tenant, expire_time=soon)
    good = create(admin, tenant=tenant).api_key
    bad = (
        revoked.api_key,
        expired.api_key,
        good[:-1] + "?",
        f"{good[:20]}x",
        "tv_0000000000000000_x",
        "tv______",
        "no key at all",
    )
    answers = set()
    for text in bad:
        with refused("CREDENTIAL_INVALID") as failures:
            stack.access_api().ExchangeKey(pb.ExchangeKeyRequest(api_key=text))
        answers.add(failures[0].message)
        with refused("CREDENTIAL_INVALID") as failures:
            stack.access_api(text).WhoAmI(pb.WhoAmIRequest())
        answers.add(failures[0].message)
    assert len(answers) == 1


def test_a_key_is_shown_once_also_when_its_request_is_repeated(stack: Stack, admin: Api):
    tenant, request_id = stack.tenant(), str(uuid.uuid4())
    first = create(admin, tenant=tenant, request_id=request_id)
    again = create(admin, tenant=tenant, request_id=request_id)
    assert first.api_key.startswith(f"tv_{first.key.key}_")
    assert (again.key, again.api_key) == (first.key, "")
    with refused("REQUEST_ID_REUSED"):
        create(admin, pb.ROLE_VIEWER, tenant=tenant, request_id=request_id)


def test_nothing_on_disk_or_in_the_log_holds_the_text_of_a_key(stack: Stack, admin: Api):
    created = create(admin, tenant=stack.tenant())
    stack.access_api(created.api_key).WhoAmI(pb.WhoAmIRequest())
    secret = created.api_key.rpartition(created.key.key)[2].encode()
    for path in (stack.data / "access").rglob("*"):
        assert not path.is_file() or secret not in path.read_bytes(), path.name
    assert secret.decode() not in stack.access.log()


def test_nobody_hands_on_more_than_he_has(stack: Stack):
    tenant = stack.tenant()
    owner = stack.access_api(stack.tenant_key(tenant, pb.ROLE_OWNER))
    assert create(owner, pb.ROLE_VIEWER, pb.ROLE_MEMBER, pb.ROLE_OWNER).api_key
    for role in (pb.ROLE_ADMIN, pb.ROLE_SERVICE):
        with refused("KEY_ROLES_EXCEEDED"):
            create(owner, role)
    member = stack.access_api(stack.tenant_key(tenant, pb.ROLE_MEMBER))
    with refused("ROLE_MISSING"):
        create(member, pb.ROLE_VIEWER)
    with refused("ROLE_MISSING"):
        member.ListKeys(pb.ListKeysRequest())


def test_keys_are_listed_newest_first_without_secrets(stack: Stack, admin: Api):
    tenant = stack.tenant()
    made = [create(admin, tenant=tenant, display_name=str(number)).key for number in range(5)]

    def page(token: str):
        return admin.ListKeys(pb.ListKeysRequest(tenant=tenant, page_size=2, page_token=token))

    assert list(pages(page, "keys")) == made[::-1]


def test_a_revoked_key_dies_at_access_at_once_with_its_assertions(stack: Stack, admin: Api):
    created = create(admin, tenant=stack.tenant())
    token = stack.access_api().ExchangeKey(pb.ExchangeKeyRequest(api_key=created.api_key)).assertion.token
    stack.access_api(token).WhoAmI(pb.WhoAmIRequest())
    first = admin.RevokeKey(pb.RevokeKeyRequest(key=created.key.key)).key
    assert admin.RevokeKey(pb.RevokeKeyRequest(key=created.key.key)).key == first
    for credential in (created.api_key, token):
        with refused("CREDENTIAL_INVALID"):
            stack.access_api(credential).WhoAmI(pb.WhoAmIRequest())
    published = stack.access_api().GetSigningKeys(pb.GetSigningKeysRequest())
    assert created.key.key in published.revoked_principals


@pytest.mark.parametrize("role", [pb.ROLE_ADMIN, pb.ROLE_SERVICE])
def test_an_owner_ends_no_key_that_may_do_more_than_he_may(stack: Stack, admin: Api, role: "pb.Role.ValueType"):
    tenant = stack.tenant()
    owner = stack.access_api(stack.tenant_key(tenant, pb.ROLE_OWNER))
    made = create(admin, role, tenant=tenant)
    for end, request in (
        (owner.RevokeKey, pb.RevokeKeyRequest(key=made.key.key)),
        (owner.RotateKey, pb.RotateKeyRequest(key=made.key.key, overlap_seconds=0)),
    ):
        with refused("KEY_ROLES_EXCEEDED"):
            end(request)
    assert stack.access_api(made.api_key).WhoAmI(pb.WhoAmIRequest()).principal == made.key.key
    theirs = create(admin, pb.ROLE_OWNER, tenant=tenant).key.key
    assert owner.RevokeKey(pb.RevokeKeyRequest(key=theirs)).key.HasField("revoke_time")
    assert admin.RevokeKey(pb.RevokeKeyRequest(key=made.key.key)).key.HasField("revoke_time")


def test_a_disabled_tenant_loses_its_keys_and_nothing_else(stack: Stack, admin: Api):
    tenant = stack.tenant()
    key = stack.tenant_key(tenant)
    assert admin.DisableTenant(pb.DisableTenantRequest(tenant=tenant)).tenant.disabled
    with refused("CREDENTIAL_INVALID"):
        stack.access_api(key).WhoAmI(pb.WhoAmIRequest())
    with refused("TENANT_DISABLED"):
        create(admin, tenant=tenant)
    with refused("TENANT_DISABLED"):
        stack.access_api(stack.key("service")).IssueAssertion(pb.IssueAssertionRequest(tenant=tenant))
    assert len(admin.ListKeys(pb.ListKeysRequest(tenant=tenant)).keys) == 1


def test_a_tenant_by_whose_keys_services_work_is_not_disabled(stack: Stack, admin: Api):
    tenant = stack.tenant()
    made = create(admin, pb.ROLE_SERVICE, tenant=tenant)
    # A key that is over, or another's, is no service's.
    create(admin, pb.ROLE_SERVICE, tenant=tenant, expire_time=Timestamp(seconds=1))
    create(admin, pb.ROLE_OWNER, tenant=tenant)
    with refused("TENANT_IN_USE") as failures:
        admin.DisableTenant(pb.DisableTenantRequest(tenant=tenant))
    assert failures[0].variables["keys"] == "1"
    assert stack.access_api(made.api_key).WhoAmI(pb.WhoAmIRequest()).tenant == tenant
    admin.RevokeKey(pb.RevokeKeyRequest(key=made.key.key))
    assert admin.DisableTenant(pb.DisableTenantRequest(tenant=tenant)).tenant.disabled


def test_a_service_acts_for_a_tenant_as_member_and_says_on_whose_behalf(stack: Stack):
    tenant = stack.tenant()
    service = stack.access_api(stack.key("service"))
    issued = service.IssueAssertion(pb.IssueAssertionRequest(tenant=tenant, on_behalf_of="somebody")).assertion
    assert (issued.tenant, issued.principal, list(issued.roles)) == (
        tenant,
        "somebody",
        [pb.ROLE_MEMBER, pb.ROLE_DEVELOPER],
    )
    registry = stack.registry_api(issued.token)
    model = registry.CreateModel(registry_pb2.CreateModelRequest(model="m")).model
    assert model.name == f"tenants/{tenant}/models/m"
    with refused("TENANT_NOT_FOUND"):
        service.IssueAssertion(pb.IssueAssertionRequest(tenant="nobody"))
    with refused("ROLE_MISSING"):
        stack.access_api(stack.tenant_key(tenant)).IssueAssertion(pb.IssueAssertionRequest(tenant=tenant))


@pytest.mark.parametrize(
    ("roles", "granted"),
    [
        ([pb.ROLE_VIEWER], [pb.ROLE_VIEWER]),
        ([pb.ROLE_MEMBER], [pb.ROLE_MEMBER]),
        ([pb.ROLE_MEMBER, pb.ROLE_SERVICE], [pb.ROLE_MEMBER]),
        ([pb.ROLE_DEVELOPER, pb.ROLE_MEMBER], [pb.ROLE_DEVELOPER]),
        ([pb.ROLE_ADMIN, pb.ROLE_OWNER], [pb.ROLE_DEVELOPER]),
        ([pb.ROLE_SERVICE], []),
        ([], []),
    ],
)
def test_a_service_acts_with_the_rights_that_it_states_and_never_with_more_than_a_developers(
    stack: Stack, roles: list["pb.Role.ValueType"], granted: list["pb.Role.ValueType"]
):
    tenant = stack.tenant()
    service = stack.access_api(stack.key("service"))
    rights = pb.Rights(roles=roles, scopes=[permission_pb2.SCOPE_INFERENCE])
    issued = service.IssueAssertion(pb.IssueAssertionRequest(tenant=tenant, on_behalf_of="somebody", rights=rights))
    assert list(issued.assertion.roles) == granted
    claims = jwt.decode(issued.assertion.token, options={"verify_signature": False})
    assert (len(claims["roles"]), claims["scopes"]) == (len(granted), ["inference"])
    with refused("SCOPE_MISSING" if granted else "ROLE_MISSING"):
        stack.access_api(issued.assertion.token).ListUsage(pb.ListUsageRequest())


def test_an_owner_sees_what_was_changed_in_his_tenant(stack: Stack, admin: Api):
    tenant = stack.tenant()
    owner = stack.access_api(stack.tenant_key(tenant, pb.ROLE_OWNER))
    key = create(owner).key.key
    owner.RevokeKey(pb.RevokeKeyRequest(key=key))

    def page(token: str):
        return owner.ListAuditEvents(pb.ListAuditEventsRequest(page_size=2, page_token=token))

    events = list(pages(page, "events"))
    assert [event.action for event in events] == ["key.revoked", "key.created", "key.created", "tenant.created"]
    assert [event.sequence for event in events] == [4, 3, 2, 1]
    assert events[0].resource == f"tenants/{tenant}/keys/{key}"
    assert events[0].principal == owner.WhoAmI(pb.WhoAmIRequest()).principal
