"""The embedder over its stub."""

from collections.abc import Sequence

import grpc
import numpy as np
from trivium.common.v1 import tensor_pb2
from trivium.embedder.v1 import embedder_pb2, embedder_pb2_grpc

from gateway.auto.choosing import Meanings
from gateway.peers import failures

NAME = "embedder"
# Of the 2,048 texts and 4 MiB that one call may have, at the longest example's 2,000 characters of four bytes.
_TEXTS_A_CALL = 256


class RemoteMeanings:
    """Implements :class:`gateway.auto.choosing.Embedder` by the deployment's default model."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: embedder_pb2_grpc.EmbedderServiceAsyncStub = embedder_pb2_grpc.EmbedderServiceStub(channel)

    async def embed(self, questions: Sequence[str]) -> Meanings:
        """As the Protocol says; what the embedder has embedded before for the tenant it does not compute again."""
        parts, digest = [], ""
        for start in range(0, len(questions), _TEXTS_A_CALL):
            request = embedder_pb2.EmbedRequest(
                texts=questions[start : start + _TEXTS_A_CALL],
                role=embedder_pb2.TEXT_ROLE_QUERY,
                dtype=tensor_pb2.DTYPE_FLOAT32,
            )
            with failures.of(NAME):
                answer = await self._stub.Embed(request)
            parts.append(np.frombuffer(answer.embeddings.data, "<f4").reshape(tuple(answer.embeddings.shape)))
            digest = answer.model_digest
        return Meanings(np.concatenate(parts).astype(np.float64), digest)


class RemoteVectors:
    """Implements :class:`gateway.asking.support.Embedder` by the same model."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: embedder_pb2_grpc.EmbedderServiceAsyncStub = embedder_pb2_grpc.EmbedderServiceStub(channel)

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """As the Protocol says."""
        if not texts:
            return []
        request = embedder_pb2.EmbedRequest(
            texts=texts,
            role=embedder_pb2.TEXT_ROLE_DOCUMENT,
            dtype=tensor_pb2.DTYPE_FLOAT32,
            no_store=True,
        )
        with failures.of(NAME):
            answer = await self._stub.Embed(request)
        rows: list[list[float]] = np.frombuffer(answer.embeddings.data, "<f4").reshape(len(texts), -1).tolist()
        return rows
