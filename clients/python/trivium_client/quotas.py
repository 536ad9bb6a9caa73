"""Limits of tenants, of their keys, models and projects, and what tokens cost; role admin sets them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from trivium.access.v1 import access_pb2 as pb
from trivium.access.v1 import quota_pb2
from trivium.access.v1.access_pb2_grpc import AccessServiceStub

from trivium_client.transport import Transport

if TYPE_CHECKING:
    from trivium.access.v1.access_pb2_grpc import AccessServiceAsyncStub


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be asked; None is no limit.  Months are calendar months (UTC), micros millionths of a unit of money."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent_requests: int | None = None
    tokens_per_month: int | None = None
    micros_per_month: int | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """Limits of one key (by its id), model or project, beside the tenant's own; exactly one of the three is named."""

    limits: Limits
    key: str = ""
    model: str = ""
    project: str = ""


@dataclass(frozen=True, slots=True)
class Price:
    """What a million tokens of a model cost, in micros; an empty `model` prices all that have no price of their own."""

    model: str
    prompt_micros: int
    completion_micros: int


@dataclass(frozen=True, slots=True)
class Quota:
    """All limits of a tenant; `weight` is its share of places and tokens under overload, None for 1."""

    limits: Limits = Limits()
    weight: int | None = None
    of: tuple[Limit, ...] = ()
    prices: tuple[Price, ...] = ()


class Quotas:
    """Limits of tenants."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _stub(self) -> AccessServiceAsyncStub:
        stub: AccessServiceAsyncStub = self._transport.stub("access", AccessServiceStub)
        return stub

    async def get(self, tenant: str = "") -> Quota:
        """A tenant's limits; the caller's own where none is named.  Raises NotFoundError."""
        request = pb.GetQuotaRequest(tenant=tenant)
        return _of_wire((await self._transport.call("access", self._stub().GetQuota, request)).quota)

    async def set(self, tenant: str, quota: Quota) -> Quota:
        """Replace all of a tenant's limits; every gateway keeps to them within ten seconds.

        Raises NotFoundError and InvalidRequestError.
        """
        request = pb.UpdateQuotaRequest(tenant=tenant, quota=_to_wire(quota))
        return _of_wire((await self._transport.call("access", self._stub().UpdateQuota, request)).quota)


def _to_wire(quota: Quota) -> pb.Quota:
    return pb.Quota(
        **_set(quota.limits),
        weight=quota.weight,
        limits=[_limit(it) for it in quota.of],
        prices=[
            quota_pb2.Price(model=it.model, prompt_micros=it.prompt_micros, completion_micros=it.completion_micros)
            for it in quota.prices
        ],
    )


def _limit(limit: Limit) -> quota_pb2.Limit:
    whose = {name: value for name in ("key", "model", "project") if (value := getattr(limit, name))}
    return quota_pb2.Limit(**_set(limit.limits), **whose)


def _set(limits: Limits) -> dict[str, Any]:
    return {it.name: value for it in fields(limits) if (value := getattr(limits, it.name)) is not None}


def _of_wire(message: pb.Quota) -> Quota:
    return Quota(
        limits=_limits(message),
        weight=message.weight if message.HasField("weight") else None,
        of=tuple(_limits_of(message.limits)),
        prices=tuple(Price(it.model, it.prompt_micros, it.completion_micros) for it in message.prices),
    )


def _limits_of(messages: Iterable[quota_pb2.Limit]) -> Iterable[Limit]:
    for it in messages:
        yield Limit(_limits(it), key=it.key, model=it.model, project=it.project)


def _limits(message: Any) -> Limits:
    names = [it.name for it in fields(Limits)]
    return Limits(**{name: getattr(message, name) for name in names if message.HasField(name)})
