"""Composes the gateway and serves it: ``python -m gateway``."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from trivium.gateway.v1 import gateway_pb2_grpc

from gateway.composition import compose
from gateway.config import GatewaySettings
from gateway.http.app import create_app
from gateway.http.server import serving
from services.chassis.runtime import Runtime
from services.chassis.server import Registration, run

SERVICE = "trivium.gateway.v1.GatewayService"


@asynccontextmanager
async def build(runtime: Runtime) -> AsyncIterator[list[Registration]]:
    """The two skins over one core, until the server has drained."""
    servicer = compose(runtime)
    async with serving(create_app(runtime, servicer), runtime) as http_listen:
        runtime.announce(http_listen=http_listen)
        yield [Registration(gateway_pb2_grpc.add_GatewayServiceServicer_to_server, servicer, SERVICE)]


if __name__ == "__main__":
    run(GatewaySettings(), name="gateway", build=build)
