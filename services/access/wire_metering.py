"""Quotas, allowances and exports of usage, between protobuf and the domain."""

from collections.abc import Iterable, Sequence

from google.protobuf.timestamp_pb2 import Timestamp
from trivium.access.v1 import access_pb2, quota_pb2, usage_pb2

from services.access import wire_policies
from services.access.allowances import LEASE_SECONDS, Asked, Grant, Holding, Meter, Terms
from services.access.quotas import OWN, Limit, Price, Quota, Unit
from services.access.usage_export import Group, Span, UsageLine
from services.chassis.errors import Failure

_LIMITS = (
    "requests_per_minute",
    "tokens_per_minute",
    "concurrent_requests",
    "tokens_per_month",
    "micros_per_month",
)
_UNENFORCED = ("concurrent_jobs", "trained_tokens_per_day", "stored_bytes")
_GROUPS = {
    usage_pb2.USAGE_GROUP_KEY: Group.KEY,
    usage_pb2.USAGE_GROUP_MODEL: Group.MODEL,
    usage_pb2.USAGE_GROUP_PROJECT: Group.PROJECT,
    usage_pb2.USAGE_GROUP_DAY: Group.DAY,
}


def of_quota(message: access_pb2.Quota) -> Quota:
    """A quota as it was asked for."""
    scoped = (_of_limit(_scope(limit), limit) for limit in message.limits)
    prices = (Price(price.model, price.prompt_micros, price.completion_micros) for price in message.prices)
    return Quota(
        limits=(_of_limit(OWN, message), *scoped),
        prices=tuple(prices),
        weight=message.weight or 1,
        unenforced=tuple(name for name in _UNENFORCED if message.HasField(name)),  # type: ignore[arg-type]  # literal
    )


def _scope(message: quota_pb2.Limit) -> str:
    kind = message.WhichOneof("of")
    return f"{kind}:{getattr(message, kind)}" if kind else OWN


def _of_limit(scope: str, message: access_pb2.Quota | quota_pb2.Limit) -> Limit:
    given = {name: getattr(message, name) for name in _LIMITS if message.HasField(name)}  # type: ignore[arg-type]  # literal
    return Limit(scope, **given)


def quota(value: Quota) -> access_pb2.Quota:
    """A quota as the API shows it."""
    own, *scoped = value.limits
    message = access_pb2.Quota(limits=map(_limit, scoped), prices=map(_price, value.prices))
    if value.weight > 1:
        message.weight = value.weight
    _fill(message, own)
    return message


def _fill(message: access_pb2.Quota | quota_pb2.Limit, limit: Limit) -> None:
    for name in _LIMITS:
        if getattr(limit, name) is not None:
            setattr(message, name, getattr(limit, name))


def _limit(value: Limit) -> quota_pb2.Limit:
    message = quota_pb2.Limit()
    kind, _, name = value.scope.partition(":")
    if kind:
        setattr(message, kind, name)
    _fill(message, value)
    return message


def _price(value: Price) -> quota_pb2.Price:
    return quota_pb2.Price(
        model=value.model, prompt_micros=value.prompt_micros, completion_micros=value.completion_micros
    )


def asked(request: quota_pb2.LeaseAllowancesRequest) -> list[Asked]:
    """What a gateway asks."""
    return [Asked(item.tenant, tuple(map(_holding, item.holdings))) for item in request.tenants]


def _holding(message: quota_pb2.Holding) -> Holding:
    meter = Meter(message.meter.scope, Unit(message.meter.unit))
    return Holding(meter, message.held, message.wanted, message.returned)


def leased(terms: Iterable[Terms]) -> quota_pb2.LeaseAllowancesResponse:
    """What it is given."""
    return quota_pb2.LeaseAllowancesResponse(tenants=map(_terms, terms), lease_seconds=LEASE_SECONDS)


def _terms(value: Terms) -> quota_pb2.TenantTerms:
    return quota_pb2.TenantTerms(
        tenant=value.tenant,
        weight=value.quota.weight,
        limits=map(_limit, value.quota.limits),
        prices=map(_price, value.quota.prices),
        grants=map(_grant, value.grants),
        policy=None if value.policy is None else wire_policies.policy(value.policy),
    )


def _grant(value: Grant) -> quota_pb2.Grant:
    unit: quota_pb2.Unit.ValueType = value.meter.unit.value  # type: ignore[assignment]  # the numbers are the same
    return quota_pb2.Grant(
        meter=quota_pb2.Meter(scope=value.meter.scope, unit=unit),
        granted=value.granted,
        limit=value.limit,
        remaining=value.remaining,
        reset_seconds=value.reset_seconds,
    )


def refusals(values: Sequence[Failure | None]) -> usage_pb2.RecordUsagesResponse:
    """What became of each record."""
    return usage_pb2.RecordUsagesResponse(refusals=["" if value is None else value.reason.name for value in values])


def span(request: usage_pb2.ExportUsageRequest) -> Span:
    """The time that an export is of."""
    return Span(
        request.start_time.ToMicroseconds() if request.HasField("start_time") else None,
        request.end_time.ToMicroseconds() if request.HasField("end_time") else None,
    )


def groups(request: usage_pb2.ExportUsageRequest) -> tuple[Group, ...]:
    """By what an export sums."""
    return tuple(_GROUPS[number] for number in request.group_by)


def lines(values: Iterable[UsageLine]) -> usage_pb2.ExportUsageResponse:
    """A part of an export."""
    return usage_pb2.ExportUsageResponse(lines=map(_line, values))


def _line(value: UsageLine) -> usage_pb2.UsageLine:
    message = usage_pb2.UsageLine(
        request_id=value.request_id,
        key=value.key,
        model=value.model,
        project=value.project,
        day=value.day,
        method=value.method,
        requests=value.requests,
        prompt_tokens=value.prompt_tokens,
        completion_tokens=value.completion_tokens,
        cost_micros=value.micros,
    )
    if value.created_at is not None:
        at = Timestamp()
        at.FromMicroseconds(value.created_at)
        message.create_time.CopyFrom(at)
    return message
