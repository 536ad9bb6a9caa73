"""Ours as a service: a process of its own with the same threads, element type and budget, keeping nothing."""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from trivium.access.v1 import access_pb2, access_pb2_grpc
from trivium.embedder.v1 import embedder_pb2 as pb
from trivium.embedder.v1 import embedder_pb2_grpc

from tests.load.embedder.local import Models
from tests.stack import Process


@dataclass(frozen=True, slots=True)
class Service:
    """A client of the running service."""

    stub: "embedder_pb2_grpc.EmbedderServiceAsyncStub"
    metadata: tuple[tuple[str, str], ...]

    async def embed(self, texts: Sequence[str], *, query: bool = False, seconds: float = 60.0) -> pb.EmbedResponse:
        """One call."""
        role = pb.TEXT_ROLE_QUERY if query else pb.TEXT_ROLE_DOCUMENT
        return await self.stub.Embed(pb.EmbedRequest(texts=texts, role=role), timeout=seconds, metadata=self.metadata)


@asynccontextmanager
async def started(folder: Path, found: Models, parts: Collection[str]) -> AsyncIterator[Service | None]:
    """Access and the embedder, for as long as a part that needs them runs; None where none does."""
    if not parts:
        yield None
        return
    access = Process("access", folder).start()
    embedder = Process(
        "embedder",
        folder,
        {
            "TRIVIUM_ACCESS_ADDRESS": access.address,
            "TRIVIUM_EMBEDDER_THREADS": str(found.threads),
            "TRIVIUM_EMBEDDER_PRECISION": found.encoder.facts.compute_dtype,
            "TRIVIUM_EMBEDDER_BATCH_TOKENS": str(found.batch_tokens),
            "TRIVIUM_EMBEDDER_CACHE_BYTES": "0",
        },
    ).start()
    try:
        async with grpc.aio.insecure_channel(embedder.address) as channel:
            key = _key(folder, access.address)
            yield Service(embedder_pb2_grpc.EmbedderServiceStub(channel), (("authorization", f"Bearer {key}"),))
    finally:
        embedder.stop()
        access.stop()


def _key(folder: Path, address: str) -> str:
    admin = (folder / "keys" / "admin.key").read_text().strip()
    with grpc.insecure_channel(address) as channel:
        answer = access_pb2_grpc.AccessServiceStub(channel).CreateKey(
            access_pb2.CreateKeyRequest(tenant="default", roles=[access_pb2.ROLE_READER]),
            timeout=30,
            metadata=(("authorization", f"Bearer {admin}"),),
        )
    return str(answer.api_key)
