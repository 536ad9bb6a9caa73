"""The RPCs of what is metered: allowances under quotas, and usage."""

from collections.abc import AsyncIterator
from typing import Any

from trivium.access.v1 import quota_pb2, quota_pb2_grpc, usage_pb2, usage_pb2_grpc

from services.access import wire, wire_metering
from services.access.tenants import tenant_asked_for
from services.access.verbs import Verbs
from services.chassis.context import current

QUOTA_SERVICE = "trivium.access.v1.QuotaService"
USAGE_SERVICE = "trivium.access.v1.UsageService"


class QuotaServicer(quota_pb2_grpc.QuotaServiceServicer):
    """Serves allowances."""

    def __init__(self, verbs: Verbs) -> None:
        self._do = verbs

    async def LeaseAllowances(
        self, request: quota_pb2.LeaseAllowancesRequest, context: Any
    ) -> quota_pb2.LeaseAllowancesResponse:
        return wire_metering.leased(await self._do.allowances.lease(request.gateway, wire_metering.asked(request)))


class UsageServicer(usage_pb2_grpc.UsageServiceServicer):
    """Serves usage."""

    def __init__(self, verbs: Verbs) -> None:
        self._do = verbs

    async def RecordUsages(
        self, request: usage_pb2.RecordUsagesRequest, context: Any
    ) -> usage_pb2.RecordUsagesResponse:
        return wire_metering.refusals(await self._do.usage.record_all(wire.usages(request.records)))

    async def ExportUsage(
        self, request: usage_pb2.ExportUsageRequest, context: Any
    ) -> AsyncIterator[usage_pb2.ExportUsageResponse]:
        tenant = tenant_asked_for(current(), request.tenant)
        span, groups = wire_metering.span(request), wire_metering.groups(request)
        async for lines in self._do.export.lines(tenant, span, groups):
            yield wire_metering.lines(lines)
