"""Serves the generator: ``python -m services.generator``."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from trivium.generator.v1 import generator_pb2_grpc

from services.chassis.runtime import Runtime
from services.chassis.server import Registration, run
from services.generator.composition import open_verbs
from services.generator.config import GeneratorSettings
from services.generator.peers import RegistryVersions, RemoteRegistry
from services.generator.servicer import POLICIES, SERVICE, GeneratorServicer


@asynccontextmanager
async def build(runtime: Runtime) -> AsyncIterator[list[Registration]]:
    """Open the generator's leaves and hang its servicer over them."""
    settings = runtime.settings
    assert isinstance(settings, GeneratorSettings)
    versions = RegistryVersions(runtime.channel("registry"), settings.version_cache_seconds, runtime.clock.monotonic)
    async with open_verbs(runtime, lambda name: RemoteRegistry(runtime, name), versions) as verbs:
        servicer = GeneratorServicer(verbs, runtime.clock)
        add = generator_pb2_grpc.add_GeneratorServiceServicer_to_server
        yield [Registration(add, servicer, SERVICE, policies=POLICIES)]


if __name__ == "__main__":
    run(GeneratorSettings(), name="generator", build=build)
