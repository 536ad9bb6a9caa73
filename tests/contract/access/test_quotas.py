"""Quotas: set by admins, read by their tenant, leased by gateways; usage recorded in batches and exported."""

import json
import uuid

import grpc
import jwt
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from trivium.access.v1 import access_pb2 as pb
from trivium.access.v1 import quota_pb2, quota_pb2_grpc, usage_pb2, usage_pb2_grpc
from trivium.common.v1 import receipt_pb2
from trivium_client.cli import app
from typer.testing import CliRunner

from tests.stack import Api, Stack, refused
from tests.token_issuer import TokenIssuer


@pytest.fixture
def admin(stack: Stack) -> Api:
    return stack.access_api(stack.key("admin"))


def quotas_api(stack: Stack, credential: str) -> Api:
    return Api(quota_pb2_grpc.QuotaServiceStub(grpc.insecure_channel(stack.access.address)), credential)


def usage_api(stack: Stack, credential: str) -> Api:
    return Api(usage_pb2_grpc.UsageServiceStub(grpc.insecure_channel(stack.access.address)), credential)


def record(tenant: str, request_id: str, tokens: int = 7, model: str = "m", key: str = "k") -> pb.UsageRecord:
    usage = receipt_pb2.Usage(prompt_tokens=tokens, completion_tokens=3)
    receipt = receipt_pb2.Receipt(request_id=request_id, requested_model=model, usage=usage)
    return pb.UsageRecord(method="/m", tenant=tenant, principal=key, receipt=receipt)


QUOTA = pb.Quota(
    requests_per_minute=60,
    tokens_per_month=1000,
    weight=3,
    limits=[quota_pb2.Limit(key="k", concurrent_requests=2), quota_pb2.Limit(model="m", tokens_per_minute=9)],
    prices=[quota_pb2.Price(model="m", prompt_micros=1_000_000, completion_micros=2_000_000)],
)


def test_an_admin_sets_limits_and_their_tenant_reads_them(stack: Stack, admin: Api):
    tenant = stack.tenant()
    owner = stack.access_api(stack.tenant_key(tenant))
    assert owner.GetQuota(pb.GetQuotaRequest()).quota == pb.Quota()
    assert admin.UpdateQuota(pb.UpdateQuotaRequest(tenant=tenant, quota=QUOTA)).quota == QUOTA
    admin.UpdateQuota(pb.UpdateQuotaRequest(tenant=tenant, quota=QUOTA))
    assert owner.GetQuota(pb.GetQuotaRequest()).quota == QUOTA
    events = owner.ListAuditEvents(pb.ListAuditEventsRequest()).events
    assert [event.action for event in events].count("quota.updated") == 1
    with refused("ROLE_MISSING"):
        owner.UpdateQuota(pb.UpdateQuotaRequest(tenant=tenant, quota=pb.Quota()))
    other = stack.access_api(stack.tenant_key(stack.tenant()))
    for name in (tenant, "not-there"):
        with refused("TENANT_NOT_FOUND"):
            other.GetQuota(pb.GetQuotaRequest(tenant=name))
    with refused("TENANT_NOT_FOUND"):
        admin.UpdateQuota(pb.UpdateQuotaRequest(tenant="not-there", quota=QUOTA))


def test_an_assertion_says_the_weight_of_its_tenant_however_it_was_come_by(
    stack: Stack, admin: Api, issuer: TokenIssuer
):
    tenant = stack.tenant()
    key, anybody, service = stack.tenant_key(tenant), stack.access_api(), stack.access_api(stack.key("service"))

    def said() -> list[int | None]:
        issued = (
            anybody.ExchangeKey(pb.ExchangeKeyRequest(api_key=key)),
            anybody.ExchangeToken(pb.ExchangeTokenRequest(token=issuer.token(tenant=tenant))),
            service.IssueAssertion(pb.IssueAssertionRequest(tenant=tenant)),
        )
        return [jwt.decode(each.assertion.token, options={"verify_signature": False}).get("weight") for each in issued]

    assert said() == [None] * 3
    for weight in (3, 5):
        admin.UpdateQuota(pb.UpdateQuotaRequest(tenant=tenant, quota=pb.Quota(weight=weight)))
        assert said() == [weight] * 3
    admin.UpdateQuota(pb.UpdateQuotaRequest(tenant=tenant, quota=pb.Quota()))
    assert said() == [None] * 3


def test_a_limit_that_nothing_keeps_is_refused_by_name(stack: Stack, admin: Api):
    tenant = stack.tenant()
    with refused("FIELD_INVALID") as failures:
        admin.UpdateQuota(pb.UpdateQuotaRequest(tenant=tenant, quota=pb.Quota(stored_bytes=1)))
    assert failures[0].violations[0].field == "quota.stored_bytes"


def test_a_gateway_hears_the_limits_and_is_given_parts_of_them(stack: Stack, admin: Api):
    tenant = stack.tenant()
    # Of three a minute no further one is due before both have asked.
    quota = pb.Quota()
    quota.CopyFrom(QUOTA)
    quota.requests_per_minute = 3
    admin.UpdateQuota(pb.UpdateQuotaRequest(tenant=tenant, quota=quota))
    gateways = quotas_api(stack, stack.key("service"))
    meter = quota_pb2.Meter(unit=quota_pb2.UNIT_REQUESTS)
    holding = quota_pb2.Holding(meter=meter, wanted=2)
    asked = quota_pb2.TenantHoldings(tenant=tenant, holdings=[holding])
    given = [
        gateways.LeaseAllowances(quota_pb2.LeaseAllowancesRequest(gateway=gateway, tenants=[asked])).tenants[0]
        for gateway in ("a", "b")
    ]
    assert [terms.grants[0].granted for terms in given] == [2, 1]
    assert given[0].weight == 3
    assert [limit.WhichOneof("of") for limit in given[0].limits] == [None, "key", "model"]
    unknown = quota_pb2.LeaseAllowancesRequest(gateway="a", tenants=[quota_pb2.TenantHoldings(tenant="not-there")])
    assert gateways.LeaseAllowances(unknown).tenants[0].weight == 1
    with refused("ROLE_MISSING"):
        quotas_api(stack, stack.tenant_key(tenant)).LeaseAllowances(unknown)


def test_records_in_one_call_count_once_each_and_one_that_is_refused_holds_up_no_other(stack: Stack):
    tenant = stack.tenant()
    gateway = usage_api(stack, stack.key("service"))
    ids = [str(uuid.uuid4()) for _ in range(3)]
    records = [record(tenant, ids[0]), record("not-there", ids[1]), record(tenant, ids[1]), record(tenant, ids[0])]
    request = usage_pb2.RecordUsagesRequest(records=records)
    for _ in range(2):
        assert list(gateway.RecordUsages(request).refusals) == ["", "TENANT_NOT_FOUND", "", ""]
    other = usage_pb2.RecordUsagesRequest(records=[record(tenant, ids[0], tokens=8), record(tenant, ids[2])])
    assert list(gateway.RecordUsages(other).refusals) == ["REQUEST_ID_REUSED", ""]
    kept = stack.access_api(stack.tenant_key(tenant)).ListUsage(pb.ListUsageRequest()).records
    assert sorted(item.request_id for item in kept) == sorted(ids)
    bad = [record(tenant, ""), record(tenant, str(uuid.uuid4())), record(tenant, ids[0], tokens=-9)]
    answer = gateway.RecordUsages(usage_pb2.RecordUsagesRequest(records=bad))
    assert list(answer.refusals) == ["FIELD_INVALID", "", "FIELD_INVALID"]
    with refused("ROLE_MISSING"):
        usage_api(stack, stack.tenant_key(tenant)).RecordUsages(request)


def test_usage_is_exported_by_line_and_in_sums_that_agree(stack: Stack, admin: Api):
    tenant = stack.tenant()
    admin.UpdateQuota(pb.UpdateQuotaRequest(tenant=tenant, quota=QUOTA))
    records = [
        record(tenant, str(uuid.uuid4()), tokens=number, model="m@prod" if number % 2 else "", key=f"k{number % 3}")
        for number in range(12)
    ]
    usage_api(stack, stack.key("service")).RecordUsages(usage_pb2.RecordUsagesRequest(records=records))
    reader = usage_api(stack, stack.tenant_key(tenant))

    def export(*groups: "usage_pb2.UsageGroup.ValueType", **fields):
        request = usage_pb2.ExportUsageRequest(group_by=groups, **fields)
        return [line for part in reader.ExportUsage(request) for line in part.lines]

    lines = export()
    assert [line.request_id for line in lines] == [item.receipt.request_id for item in records]
    assert lines[1].cost_micros == 1 * 1 + 3 * 2
    assert lines[0].cost_micros == 0
    by_model = export(usage_pb2.USAGE_GROUP_MODEL)
    assert [(line.model, line.requests) for line in by_model] == [("base", 6), ("m", 6)]
    for groups in ([usage_pb2.USAGE_GROUP_KEY, usage_pb2.USAGE_GROUP_DAY], [usage_pb2.USAGE_GROUP_PROJECT]):
        sums = export(*groups)
        for name in ("requests", "prompt_tokens", "completion_tokens", "cost_micros"):
            assert sum(getattr(line, name) for line in sums) == sum(getattr(line, name) for line in lines)
    assert export(usage_pb2.USAGE_GROUP_DAY)[0].day == lines[0].day
    moment = lines[6].create_time
    assert export(end_time=moment) + export(start_time=moment) == lines
    with refused("FIELD_INVALID"):
        export(start_time=Timestamp(seconds=2), end_time=Timestamp(seconds=1))
    with refused("TENANT_NOT_FOUND"):
        export(tenant=stack.tenant())


def test_the_command_line_writes_what_was_used(stack: Stack, monkeypatch: pytest.MonkeyPatch):
    tenant = stack.tenant()
    records = [record(tenant, str(uuid.uuid4()), tokens=number) for number in range(3)]
    usage_api(stack, stack.key("service")).RecordUsages(usage_pb2.RecordUsagesRequest(records=records))
    monkeypatch.setenv("TRIVIUM_API_KEY", stack.tenant_key(tenant))
    monkeypatch.setenv("TRIVIUM_ACCESS_ADDRESS", stack.access.address)

    def written(*arguments: str) -> list[str]:
        outcome = CliRunner().invoke(app, ["usage", "export", *arguments])
        assert outcome.exit_code == 0, outcome.output
        return outcome.stdout.splitlines()

    lines = [json.loads(line) for line in written("--format", "jsonl")]
    assert [line["request_id"] for line in lines] == [item.receipt.request_id for item in records]
    head, row = written("--by", "model")
    assert (head, row) == ("model,requests,prompt_tokens,completion_tokens,cost_micros", "m,3,3,9,0")
    # A table without rows is a table still.
    assert written("--by", "model", "--end", "2020-01-01") == [head]
    (whole,) = written("--end", "2020-01-01")
    assert whole.startswith("request_id,key,model,")
    assert written("--format", "jsonl", "--end", "2020-01-01") == []


def test_the_command_line_makes_a_tenant_its_first_key_and_its_limits(stack: Stack) -> None:
    tenant = f"t{uuid.uuid4().hex[:8]}"

    def said(*words: str, key: str = stack.key("admin")) -> str:
        environment = {"TRIVIUM_API_KEY": key, "TRIVIUM_ACCESS_ADDRESS": stack.access.address}
        result = CliRunner().invoke(app, [*words], env=environment)
        assert result.exit_code == 0, result.output
        return result.output

    assert said("tenants", "create", tenant, "--name", "Acme Ferries") == f"{tenant}\n"
    assert tenant in said("tenants", "list").splitlines()
    first = said("keys", "create", "--tenant", tenant, "--role", "owner").strip()
    assert said("keys", "create", "--role", "viewer", key=first).startswith("tv_")
    own, of_tenant = said("keys", "list", "--json", key=first), said("keys", "list", "--tenant", tenant, "--json")
    assert [it["key"] for it in json.loads(own)] == [it["key"] for it in json.loads(of_tenant)]
    assert [it["roles"] for it in json.loads(own)] == [["viewer"], ["owner"]]
    assert tenant in json.loads(said("tenants", "list", "--json"))

    assert said("tenants", "quota", "show", tenant) == "There is no limit.\n"
    said("tenants", "quota", "set", tenant, "--requests-per-minute", "600", "--tokens-per-month", "7", "--weight", "3")
    said("tenants", "quota", "set", tenant, "--model", "desk", "--concurrent-requests", "4")
    said("tenants", "quota", "set", tenant, "--model", "desk", "--tokens-per-minute", "5")
    # What is not named stays; 0 ends a limit.
    said("tenants", "quota", "set", tenant, "--tokens-per-month", "0")
    assert said("tenants", "quota", "show", tenant).splitlines() == [
        "requests per minute: 600",
        "weight: 3",
        "tokens per minute of the model desk: 5",
        "concurrent requests of the model desk: 4",
    ]
    said("tenants", "quota", "set", tenant, "--model", "desk", "--tokens-per-minute", "0", "--concurrent-requests", "0")
    assert json.loads(said("tenants", "quota", "show", tenant, "--json"))["of"] == []

    user = json.loads(said("users", "create", "Somebody", "--tenant", tenant, "--role", "viewer", "--json"))
    assert json.loads(said("users", "list", "--tenant", tenant, "--json")) == [user]
    # Nobody can be asked here.
    environment = {"TRIVIUM_API_KEY": stack.key("admin"), "TRIVIUM_ACCESS_ADDRESS": stack.access.address}
    unsure = CliRunner().invoke(app, ["tenants", "disable", tenant], env=environment)
    assert (unsure.exit_code, "--yes" in unsure.output) == (2, True)
    assert said("tenants", "disable", tenant, "--yes") == f"{tenant}\n"
    environment["TRIVIUM_API_KEY"] = first
    assert CliRunner().invoke(app, ["keys", "list"], env=environment).exit_code != 0


def test_a_limit_by_the_command_line_leaves_those_of_keys_and_the_prices(stack: Stack, admin: Api) -> None:
    tenant = stack.tenant()
    limits = [quota_pb2.Limit(key="k1", tokens_per_minute=5), quota_pb2.Limit(project="p", requests_per_minute=2)]
    price = quota_pb2.Price(model="desk", prompt_micros=2, completion_micros=3)
    quota = pb.Quota(tokens_per_minute=9, weight=2, limits=limits, prices=[price])
    admin.UpdateQuota(pb.UpdateQuotaRequest(tenant=tenant, quota=quota))
    environment = {"TRIVIUM_API_KEY": stack.key("admin"), "TRIVIUM_ACCESS_ADDRESS": stack.access.address}
    words = ["tenants", "quota", "set", tenant, "--micros-per-month", "70"]
    assert CliRunner().invoke(app, words, env=environment).exit_code == 0
    quota.micros_per_month = 70
    assert admin.GetQuota(pb.GetQuotaRequest(tenant=tenant)).quota == quota
    # One limit is of one thing.
    for wrong in (["--model", "m", "--key", "k"], ["--model", "m", "--weight", "2"]):
        assert CliRunner().invoke(app, [*words, *wrong], env=environment).exit_code == 2
