"""Compose the embedder and serve it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from trivium.embedder.v1 import embedder_pb2_grpc

from services.chassis.runtime import Runtime
from services.chassis.server import Registration, run
from services.embedder.config import EmbedderSettings
from services.embedder.peers import RemoteRegistry
from services.embedder.servicer import EmbedderServicer
from services.embedder.serving import opened


@asynccontextmanager
async def build(runtime: Runtime) -> AsyncIterator[list[Registration]]:
    """The embedder's registrations, for as long as its models are in memory."""
    assert isinstance(runtime.settings, EmbedderSettings)
    registry = RemoteRegistry(runtime) if runtime.settings.has_registry else None
    async with opened(runtime, runtime.settings, registry) as verbs:
        yield [
            Registration(
                add_to_server=embedder_pb2_grpc.add_EmbedderServiceServicer_to_server,
                servicer=EmbedderServicer(verbs),
                service="trivium.embedder.v1.EmbedderService",
            )
        ]


def main() -> None:
    """Serve until told to stop."""
    run(EmbedderSettings(), name="embedder", build=build)


if __name__ == "__main__":
    main()
