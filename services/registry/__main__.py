"""Serves the adapter-registry: ``python -m services.registry``."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from trivium.registry.v1 import registry_pb2_grpc

from services.chassis.runtime import Runtime
from services.chassis.server import Registration, run
from services.registry.config import RegistrySettings
from services.registry.servicer import POLICIES, RegistryServicer
from services.registry.verbs import open_verbs

SERVICE = "trivium.registry.v1.RegistryService"


@asynccontextmanager
async def build(runtime: Runtime) -> AsyncIterator[list[Registration]]:
    """Open the registry's leaves and hang its servicer over them."""
    async with open_verbs(runtime) as verbs:
        servicer = RegistryServicer(verbs)
        add = registry_pb2_grpc.add_RegistryServiceServicer_to_server
        yield [Registration(add, servicer, SERVICE, policies=POLICIES)]


if __name__ == "__main__":
    run(RegistrySettings(), name="registry", build=build)
