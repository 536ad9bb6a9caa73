"""Content policies: set by admins alone, heard of by gateways with a tenant's limits."""

import json

import grpc
import pytest
from trivium.access.v1 import access_pb2 as pb
from trivium.access.v1 import policy_pb2, quota_pb2, quota_pb2_grpc
from trivium_client.cli import app
from typer.testing import CliRunner

from tests.stack import Api, Stack, refused

POLICY = policy_pb2.Policy(
    endpoint="judge.example:7000",
    timeout_ms=250,
    failure=policy_pb2.POLICY_FAILURE_OPEN,
    answers=policy_pb2.ANSWER_CHECK_WHOLE,
)


@pytest.fixture
def admin(stack: Stack) -> Api:
    return stack.access_api(stack.key("admin"))


def set_policy(admin: Api, tenant: str, policy: policy_pb2.Policy) -> policy_pb2.Policy:
    answer: policy_pb2.Policy = admin.UpdatePolicy(pb.UpdatePolicyRequest(tenant=tenant, policy=policy)).policy
    return answer


def leased(stack: Stack, tenant: str) -> quota_pb2.TenantTerms:
    api = Api(quota_pb2_grpc.QuotaServiceStub(grpc.insecure_channel(stack.access.address)), stack.key("service"))
    asked = quota_pb2.TenantHoldings(tenant=tenant)
    terms: quota_pb2.TenantTerms = api.LeaseAllowances(
        quota_pb2.LeaseAllowancesRequest(gateway="g", tenants=[asked])
    ).tenants[0]
    return terms


def test_an_admin_sets_a_policy_and_gateways_hear_of_it_with_the_limits(stack: Stack, admin: Api) -> None:
    tenant, other = stack.tenant(), stack.tenant()
    assert admin.GetPolicy(pb.GetPolicyRequest(tenant=tenant)).policy == policy_pb2.Policy()
    assert not leased(stack, tenant).HasField("policy")
    assert set_policy(admin, tenant, POLICY) == POLICY
    set_policy(admin, tenant, POLICY)
    assert admin.GetPolicy(pb.GetPolicyRequest(tenant=tenant)).policy == POLICY
    assert leased(stack, tenant).policy == POLICY
    assert not leased(stack, other).HasField("policy")
    assert set_policy(admin, tenant, policy_pb2.Policy()) == policy_pb2.Policy()
    assert not leased(stack, tenant).HasField("policy")
    events = stack.access_api(stack.tenant_key(tenant)).ListAuditEvents(pb.ListAuditEventsRequest()).events
    assert [event.action for event in events].count("policy.updated") == 2


def test_what_is_left_out_is_the_careful_choice(stack: Stack, admin: Api) -> None:
    found = set_policy(admin, stack.tenant(), policy_pb2.Policy(endpoint="[::1]:7000"))
    assert found.failure == policy_pb2.POLICY_FAILURE_CLOSED
    assert found.answers == policy_pb2.ANSWER_CHECK_PIECES
    assert (found.timeout_ms, found.skip_prompts) == (2000, False)


def test_nobody_but_an_admin_sets_or_sees_where_gateways_call(stack: Stack, admin: Api) -> None:
    tenant = stack.tenant()
    owner = stack.access_api(stack.tenant_key(tenant))
    with refused("ROLE_MISSING"):
        owner.UpdatePolicy(pb.UpdatePolicyRequest(tenant=tenant, policy=POLICY))
    with refused("ROLE_MISSING"):
        owner.GetPolicy(pb.GetPolicyRequest(tenant=tenant))
    with refused("TENANT_NOT_FOUND"):
        set_policy(admin, "not-there", POLICY)
    with refused("TENANT_NOT_FOUND"):
        admin.GetPolicy(pb.GetPolicyRequest(tenant="not-there"))


@pytest.mark.parametrize(
    ("endpoint", "reason"),
    [
        ("judge", "REQUEST_INVALID"),
        ("judge:", "REQUEST_INVALID"),
        ("http://judge:80", "REQUEST_INVALID"),
        ("unix:/tmp/judge", "REQUEST_INVALID"),
        ("a b:1", "REQUEST_INVALID"),
        ("unix:7000", "FIELD_INVALID"),
        ("judge:0", "FIELD_INVALID"),
        ("judge:70000", "FIELD_INVALID"),
    ],
)
def test_what_is_no_host_and_port_is_refused_by_name(stack: Stack, admin: Api, endpoint: str, reason: str) -> None:
    with refused(reason) as failures:
        set_policy(admin, stack.tenant(), policy_pb2.Policy(endpoint=endpoint))
    assert failures[0].violations[0].field == "policy.endpoint"


def test_a_policy_that_judges_nothing_is_refused(stack: Stack, admin: Api) -> None:
    nothing = policy_pb2.Policy(endpoint="h:1", answers=policy_pb2.ANSWER_CHECK_NONE, skip_prompts=True)
    with refused("FIELD_INVALID") as failures:
        set_policy(admin, stack.tenant(), nothing)
    assert failures[0].violations[0].field == "policy.answers"


def test_the_command_line_sets_shows_and_ends_a_policy(stack: Stack) -> None:
    tenant = stack.tenant()
    environment = {"TRIVIUM_API_KEY": stack.key("admin"), "TRIVIUM_ACCESS_ADDRESS": stack.access.address}

    def said(*words: str) -> str:
        result = CliRunner().invoke(app, ["tenants", "policy", *words], env=environment)
        assert result.exit_code == 0, result.output
        return result.output

    said("set", tenant, "127.0.0.1:7000", "--answers", "whole", "--timeout-ms", "300", "--fail-open")
    assert json.loads(said("show", tenant, "--json")) == {
        "endpoint": "127.0.0.1:7000",
        "timeout_ms": 300,
        "fail_open": True,
        "prompts": True,
        "answers": "whole",
    }
    said("rm", tenant)
    assert "127.0.0.1:7000" not in said("show", tenant)
    assert json.loads(said("show", tenant, "--json") or "null") is None
