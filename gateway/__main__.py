"""Composes the gateway and serves it: ``python -m gateway``."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.composition import compose
from gateway.config import GatewaySettings
from gateway.http.app import create_app
from gateway.http.server import serving
from services.chassis.runtime import Runtime
from services.chassis.server import Registration, run


@asynccontextmanager
async def build(runtime: Runtime) -> AsyncIterator[list[Registration]]:
    """The two transports over one core, until the server has drained."""
    servicers = compose(runtime)
    async with serving(create_app(runtime, servicers), runtime) as http_listen:
        runtime.announce(http_listen=http_listen)
        yield servicers.registrations()


if __name__ == "__main__":
    run(GatewaySettings(), name="gateway", build=build)
