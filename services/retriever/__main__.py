"""Serves the retriever: ``python -m services.retriever``."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from trivium.retriever.v1 import retriever_pb2_grpc

from services.chassis.runtime import Runtime
from services.chassis.server import Registration, run
from services.retriever.config import RetrieverSettings
from services.retriever.servicer import POLICIES, RetrieverServicer
from services.retriever.verbs import open_verbs

SERVICE = "trivium.retriever.v1.RetrieverService"


@asynccontextmanager
async def build(runtime: Runtime) -> AsyncIterator[list[Registration]]:
    """Open the retriever's leaves and hang its servicer over them."""
    async with open_verbs(runtime) as verbs:
        add = retriever_pb2_grpc.add_RetrieverServiceServicer_to_server
        yield [Registration(add, RetrieverServicer(verbs), SERVICE, policies=POLICIES)]


if __name__ == "__main__":
    run(RetrieverSettings(), name="retriever", build=build)
