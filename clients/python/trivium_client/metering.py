"""What a tenant used."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from trivium.access.v1 import usage_pb2 as pb
from trivium.access.v1.usage_pb2_grpc import UsageServiceStub

from trivium_client.transport import Transport

if TYPE_CHECKING:
    from trivium.access.v1.usage_pb2_grpc import UsageServiceAsyncStub

GROUPS = {
    "key": pb.USAGE_GROUP_KEY,
    "model": pb.USAGE_GROUP_MODEL,
    "project": pb.USAGE_GROUP_PROJECT,
    "day": pb.USAGE_GROUP_DAY,
}


@dataclass(frozen=True, slots=True)
class UsageLine:
    """One request, or the sums of a group; what a sum is not by is empty.

    `cost_micros` is in millionths of the deployment's unit of money, by the prices when it was recorded.
    """

    request_id: str
    key: str
    model: str
    project: str
    day: str
    method: str
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cost_micros: int
    created: datetime | None


class Usages:
    """What the tenant used."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _stub(self) -> UsageServiceAsyncStub:
        stub: UsageServiceAsyncStub = self._transport.stub("access", UsageServiceStub)
        return stub

    async def export(
        self,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        by: Sequence[str] = (),
        tenant: str = "",
    ) -> AsyncIterator[UsageLine]:
        """Every request in the order of recording, or sums by key, model, project and day.

        `start` is in it, `end` is not.  Only role admin may name another tenant.  Raises InvalidRequestError, and ValueError
        for a group that there is not.
        """
        unknown = [name for name in by if name not in GROUPS]
        if unknown:
            raise ValueError(f"usage is not summed by {unknown[0]!r}; there are: {', '.join(GROUPS)}")
        request = pb.ExportUsageRequest(tenant=tenant, group_by=[GROUPS[name] for name in by])
        if start is not None:
            request.start_time.FromDatetime(start)
        if end is not None:
            request.end_time.FromDatetime(end)
        async for part in self._transport.stream("access", self._stub().ExportUsage, request):
            for line in part.lines:
                yield _line(line)


def _line(message: pb.UsageLine) -> UsageLine:
    return UsageLine(
        request_id=message.request_id,
        key=message.key,
        model=message.model,
        project=message.project,
        day=message.day,
        method=message.method,
        requests=message.requests,
        prompt_tokens=message.prompt_tokens,
        completion_tokens=message.completion_tokens,
        cost_micros=message.cost_micros,
        created=message.create_time.ToDatetime(UTC) if message.HasField("create_time") else None,
    )
