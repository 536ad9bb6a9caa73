"""OIDC tokens at access: who comes with one is a user of the tenant that it names, and nobody else."""

import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import jwt
import pytest
from trivium.access.v1 import access_pb2 as pb
from trivium.access.v1 import access_pb2_grpc
from trivium.registry.v1 import registry_pb2

from tests.stack import Api, Process, Stack, refused
from tests.token_issuer import Served, TokenIssuer, served


def exchanged(stack: Stack, token: str) -> pb.Assertion:
    answer: pb.ExchangeTokenResponse = stack.access_api().ExchangeToken(pb.ExchangeTokenRequest(token=token))
    return answer.assertion


def me(stack: Stack, credential: str) -> pb.WhoAmIResponse:
    answer: pb.WhoAmIResponse = stack.access_api(credential).WhoAmI(pb.WhoAmIRequest())
    return answer


def actions(stack: Stack, tenant: str) -> list[tuple[str, str, str]]:
    listed = stack.access_api(stack.key("admin")).ListAuditEvents(pb.ListAuditEventsRequest(tenant=tenant)).events
    return [(event.action, event.principal, event.resource) for event in listed]


def test_a_token_is_the_same_user_at_each_sign_in_and_through_its_assertion(stack: Stack, issuer: TokenIssuer):
    tenant = stack.tenant()
    first = exchanged(stack, issuer.token(tenant=tenant, groups=["writers"]))
    again = exchanged(stack, issuer.token(tenant=tenant, groups=["bosses"]))
    assert first.principal == again.principal
    assert (list(first.roles), list(again.roles)) == ([pb.ROLE_DEVELOPER], [pb.ROLE_OWNER])
    for credential in (first.token, issuer.token(tenant=tenant, groups=["writers"])):
        seen = me(stack, credential)
        assert (seen.principal, seen.tenant, list(seen.roles)) == (first.principal, tenant, [pb.ROLE_DEVELOPER])
    resource = f"tenants/{tenant}/users/{first.principal}"
    assert [row for row in actions(stack, tenant) if row[0] == "user.created"] == [
        ("user.created", first.principal, resource)
    ]


def test_two_people_and_one_name_in_two_tenants_are_different_users(stack: Stack, issuer: TokenIssuer):
    here, there = stack.tenant(), stack.tenant()
    people = [
        exchanged(stack, issuer.token(tenant=tenant, sub=subject)).principal
        for tenant, subject in ((here, "ana"), (here, "bea"), (there, "ana"))
    ]
    assert len(set(people)) == 3


def test_an_assertion_never_outlives_its_token(stack: Stack, issuer: TokenIssuer):
    ends_at = int(time.time()) + 90
    assertion = exchanged(stack, issuer.token(tenant=stack.tenant(), exp=ends_at))
    assert assertion.expire_time.seconds == ends_at
    assert jwt.decode(assertion.token, options={"verify_signature": False})["exp"] == ends_at
    later = exchanged(stack, issuer.token(tenant=stack.tenant(), exp=ends_at + 86_400))
    assert later.expire_time.seconds < time.time() + 601


def test_tenants_that_are_missing_or_disabled_and_tokens_that_are_wrong_get_one_answer(
    stack: Stack, issuer: TokenIssuer
):
    tenant, gone = stack.tenant(), stack.tenant()
    stack.access_api(stack.key("admin")).DisableTenant(pb.DisableTenantRequest(tenant=gone))
    forged = TokenIssuer(issuer.url)
    assert exchanged(stack, issuer.token(tenant=tenant)).tenant == tenant
    answers = set()
    for token in (
        issuer.token(tenant=gone),
        issuer.token(tenant="no-such-tenant"),
        issuer.token(tenant=tenant, aud="elsewhere"),
        issuer.token(tenant=tenant, exp=int(time.time()) - 1),
        forged.token(tenant=tenant),
        TokenIssuer("https://elsewhere.test").token(tenant=tenant),
        "no token at all",
    ):
        with refused("CREDENTIAL_INVALID") as failures:
            exchanged(stack, token)
        answers.add(failures[0].message)
        with refused("CREDENTIAL_INVALID") as failures:
            me(stack, token)
        answers.add(failures[0].message)
    assert len(answers) == 1


def test_a_user_of_a_disabled_tenant_is_refused_at_once_and_published(stack: Stack, issuer: TokenIssuer):
    tenant = stack.tenant()
    token = issuer.token(tenant=tenant)
    assertion = exchanged(stack, token)
    me(stack, assertion.token)
    stack.access_api(stack.key("admin")).DisableTenant(pb.DisableTenantRequest(tenant=tenant))
    for credential in (token, assertion.token):
        with refused("CREDENTIAL_INVALID"):
            me(stack, credential)
    published = stack.access_api().GetSigningKeys(pb.GetSigningKeysRequest())
    assert assertion.principal in published.revoked_principals


def test_a_token_opens_the_door_of_another_service(stack: Stack, issuer: TokenIssuer):
    tenant = stack.tenant()
    writer = stack.registry_api(issuer.token(tenant=tenant, groups=["writers"]))
    assert writer.CreateModel(registry_pb2.CreateModelRequest(model="m")).model.name == f"tenants/{tenant}/models/m"
    with refused("ROLE_MISSING"):
        stack.registry_api(issuer.token(tenant=tenant)).CreateModel(registry_pb2.CreateModelRequest(model="n"))
    with refused("CREDENTIAL_INVALID"):
        stack.registry_api(TokenIssuer(issuer.url).token(tenant=tenant)).ListModels(registry_pb2.ListModelsRequest())


@pytest.fixture
def discovered(tmp_path: Path) -> Iterator[tuple[Served, Process]]:
    """An issuer that serves its keys, which makes no users, and an access that trusts it."""
    with served() as issuer:
        settings = issuer.environment(create_users=False, tenant="default", tenant_claim="")
        access = Process("access", tmp_path, settings).start()
        yield issuer, access
        access.stop()


def test_keys_are_discovered_and_nobody_is_made_a_user_where_the_operator_does_not_allow_it(
    discovered: tuple[Served, Process],
):
    issuer, access = discovered
    with grpc.insecure_channel(access.address) as channel:
        api = Api(access_pb2_grpc.AccessServiceStub(channel))
        for _ in range(3):
            with refused("CREDENTIAL_INVALID"):
                api.ExchangeToken(pb.ExchangeTokenRequest(token=issuer.token()))
        assert issuer.asked == ["/.well-known/openid-configuration", "/keys"]
