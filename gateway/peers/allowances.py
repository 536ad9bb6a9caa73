"""Allowances at access, over their stub."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

import grpc
from trivium.access.v1 import policy_pb2, quota_pb2, quota_pb2_grpc

from gateway.limits.terms import Grant, Limit, Price, Terms, Unit, Wish
from gateway.peers import failures
from gateway.policy.nouns import AnswerCheck, ContentPolicy

NAME = "access"
_UNITS = {
    Unit.REQUESTS: "requests_per_minute",
    Unit.TOKENS: "tokens_per_minute",
    Unit.PLACES: "concurrent_requests",
    Unit.MONTH_TOKENS: "tokens_per_month",
    Unit.MONTH_MICROS: "micros_per_month",
}
_CHECKS = {
    int(policy_pb2.ANSWER_CHECK_WHOLE): AnswerCheck.WHOLE,
    int(policy_pb2.ANSWER_CHECK_NONE): AnswerCheck.NONE,
}


class RemoteAllowances:
    """Implements :class:`gateway.limits.terms.Allowances`.

    ``life`` is another after each start; ``as_service`` opens work of the gateway itself.
    """

    def __init__(
        self, channel: grpc.aio.Channel, life: str, as_service: Callable[[], AbstractAsyncContextManager[object]]
    ) -> None:
        self._stub: quota_pb2_grpc.QuotaServiceAsyncStub = quota_pb2_grpc.QuotaServiceStub(channel)
        self._life = life
        self._as_service = as_service

    async def lease(self, asked: Sequence[tuple[str, Sequence[Wish]]]) -> list[tuple[Terms, list[Grant]]]:
        """As the Protocol says."""
        tenants = [quota_pb2.TenantHoldings(tenant=tenant, holdings=map(_holding, wishes)) for tenant, wishes in asked]
        request = quota_pb2.LeaseAllowancesRequest(gateway=self._life, tenants=tenants)
        with failures.of(NAME):
            async with self._as_service():
                answer = await self._stub.LeaseAllowances(request)
        return [(_terms(item), [_grant(grant) for grant in item.grants]) for item in answer.tenants]


def _holding(wish: Wish) -> quota_pb2.Holding:
    unit: quota_pb2.Unit.ValueType = wish.limit.unit.value  # type: ignore[assignment]  # the numbers are the same
    meter = quota_pb2.Meter(scope=wish.limit.scope, unit=unit)
    return quota_pb2.Holding(meter=meter, held=wish.held, wanted=wish.wanted, returned=wish.returned)


def _grant(message: quota_pb2.Grant) -> Grant:
    meter = message.meter
    return Grant(meter.scope, Unit(meter.unit), message.granted, message.remaining, message.reset_seconds)


def _terms(message: quota_pb2.TenantTerms) -> Terms:
    limits = tuple(
        Limit(_scope(item), unit, getattr(item, name))
        for item in message.limits
        for unit, name in _UNITS.items()
        if item.HasField(name)  # type: ignore[arg-type]  # a name of _UNITS; the stubs want it spelled out
    )
    prices = tuple(Price(price.model, price.prompt_micros, price.completion_micros) for price in message.prices)
    policy = _policy(message.policy) if message.HasField("policy") else None
    return Terms(limits, prices, max(1, message.weight), policy)


def _policy(message: policy_pb2.Policy) -> ContentPolicy:
    return ContentPolicy(
        endpoint=message.endpoint,
        timeout_seconds=message.timeout_ms / 1000,
        fail_open=message.failure == policy_pb2.POLICY_FAILURE_OPEN,
        prompts=not message.skip_prompts,
        answers=_CHECKS.get(message.answers, AnswerCheck.PIECES),
    )


def _scope(message: quota_pb2.Limit) -> str:
    kind = message.WhichOneof("of")
    return f"{kind}:{getattr(message, kind)}" if kind else ""
