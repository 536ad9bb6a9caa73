"""Asks services whether they serve, through the standard health protocol on their admin ports."""

from types import TracebackType
from typing import Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.chassis.channels import open_channel
from services.chassis.config import ServiceSettings

_SERVING = health_pb2.HealthCheckResponse.SERVING


class Probe:
    """Looks at one service; `async with` owns its connection."""

    def __init__(self, admin_address: str, timeout_seconds: float = 5.0) -> None:
        self._address = admin_address
        self._timeout_seconds = timeout_seconds

    async def __aenter__(self) -> Self:
        self._channel = open_channel(self._address, ServiceSettings())
        self._stub = health_pb2_grpc.HealthStub(self._channel)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def look(self) -> tuple[bool, str]:
        """Return whether the service serves, and if not, why as far as that is known."""
        try:
            answer = await self._stub.Check(health_pb2.HealthCheckRequest(), timeout=self._timeout_seconds)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                return False, f"no answer to a health check in {self._timeout_seconds:.0f} s"
            return False, "does not answer"
        if answer.status == _SERVING:
            return True, ""
        return False, "says that it is not ready"
