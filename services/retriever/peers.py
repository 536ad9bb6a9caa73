"""The embedder over its stub.

Invariant: what leaves this module is a domain value or a Failure; a peer that cannot be
reached is named.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import grpc
from trivium.common.v1 import tensor_pb2
from trivium.embedder.v1 import embedder_pb2 as pb
from trivium.embedder.v1 import embedder_pb2_grpc

from services.chassis.context import current_or_none
from services.chassis.errors import Code, Failure, Reason
from services.chassis.status import from_rpc_error
from services.retriever.ingestion.embeddings import EncoderFacts, Vectors

T = TypeVar("T")

_EMBEDDER = "embedder"
_RETRY_SECONDS = 1.0
# A message may have 4 MiB; the lengths of the texts are not all that is in it.
_MOST_BYTES = 3 * 1024 * 1024
_MOST_COUNTED = 2048
_MOST_EMBEDDED = 512
# What says nothing about the texts when nobody of ours said it: the peer is away, or went away.
_AWAY = frozenset({Code.UNAVAILABLE, Code.UNKNOWN, Code.CANCELLED})


class RemoteEmbeddings:
    """Implements :class:`services.retriever.ingestion.embeddings.Embeddings`."""

    def __init__(self, channel: grpc.aio.Channel, digest: str = "", names: dict[str, str] | None = None) -> None:
        self._channel = channel
        self._stub: embedder_pb2_grpc.EmbedderServiceAsyncStub = embedder_pb2_grpc.EmbedderServiceStub(channel)
        self._digest = digest
        # What to call the model with a digest: by its name where the deployment listed it last, else by the digest, which
        # means something to the tenant that has such a model of its own.  The same for every model of this embedder.
        self._names: dict[str, str] = {} if names is None else names

    def of(self, digest: str) -> "RemoteEmbeddings":
        """As the Protocol says."""
        return RemoteEmbeddings(self._channel, digest, self._names)

    async def find(self, model: str) -> EncoderFacts:
        """As the Protocol says."""
        with failures(_EMBEDDER):
            answer = await self._stub.GetEmbeddingModel(pb.GetEmbeddingModelRequest(model=model))
        if answer.WhichOneof("kind") != "model":
            problem = f"{answer.reranker.model} is a reranker; a collection is embedded by an embedding model"
            raise Failure(Reason.FIELD_INVALID, field="model", problem=problem)
        return _facts(answer.model)

    async def require_ranker(self, model: str) -> None:
        """Raise EMBEDDING_MODEL_NOT_FOUND unless the caller may rerank by this name or digest, or what is wrong with it."""
        with failures(_EMBEDDER):
            await self._stub.GetEmbeddingModel(pb.GetEmbeddingModelRequest(model=model))

    async def facts(self) -> EncoderFacts:
        """As the Protocol says."""
        models = await self._deployed()
        for found in models:
            if found.digest == self._digest:
                return found
        try:
            return await self.find(self._digest) if self._digest else models[0]
        except Failure as failure:
            if failure.reason is not Reason.EMBEDDING_MODEL_NOT_FOUND:
                raise
            return models[0]

    async def _deployed(self) -> list[EncoderFacts]:
        """The deployment's models, the default first; never none."""
        with failures(_EMBEDDER):
            answer = await self._stub.ListEmbeddingModels(pb.ListEmbeddingModelsRequest(deployment_only=True))
        if not answer.models:
            raise _away(_EMBEDDER)
        models = [_facts(it) for it in answer.models]
        self._names.clear()
        # The default needs no name, and under none it answers whichever it is.
        self._names.update({it.digest: it.name for it in models[1:]} | {models[0].digest: ""})
        return models

    async def _by_name(self, ask: Callable[[str], Awaitable[T]]) -> T:
        """What the model says when it is asked by its name; where there is none of this digest, the default says it."""
        if self._digest and self._digest not in self._names:
            await self._deployed()
            self._names.setdefault(self._digest, self._digest)
        name = self._names.get(self._digest, "")
        try:
            with failures(_EMBEDDER):
                return await ask(name)
        except Failure as failure:
            if failure.reason is not Reason.EMBEDDING_MODEL_NOT_FOUND or not name:
                raise
        # It was never the deployment's, or is no longer, and the tenant has none.
        if name != self._digest:
            self._names.pop(self._digest, None)
        with failures(_EMBEDDER):
            return await ask("")

    async def count(self, texts: Sequence[str]) -> list[int]:
        """As the Protocol says."""
        counts: list[int] = []
        for batch in _batches(texts, _MOST_COUNTED):
            # The empty text is the special tokens alone.
            special, *whole = (await self._by_name(partial(self._counted, ["", *batch]))).token_counts
            counts += [max(0, tokens - special) for tokens in whole]
        return counts

    async def _counted(self, texts: Sequence[str], name: str) -> pb.CountTokensResponse:
        return await self._stub.CountTokens(pb.CountTokensRequest(model=name, texts=texts))

    async def documents(self, texts: Sequence[str]) -> Vectors:
        """As the Protocol says."""
        vectors, digests = await self._by_name(partial(self._streamed, texts))
        if len(digests) != 1 or len(vectors) != len(texts):
            # It went away, or came back with another model, between two batches: the next try sees one of them.
            self._names.clear()
            raise _away(_EMBEDDER)
        return Vectors(digests.pop(), tuple(vectors))

    async def _streamed(self, texts: Sequence[str], name: str) -> tuple[list[bytes], set[str]]:
        """The rows of the texts, and the models that computed them."""

        async def requests() -> AsyncIterator[pb.EmbedStreamRequest]:
            for batch in _batches(texts, _MOST_EMBEDDED):
                # The catalog keeps them, and drops them with their texts.
                yield pb.EmbedStreamRequest(request=_request(batch, pb.TEXT_ROLE_DOCUMENT, name, no_store=True))

        digests: set[str] = set()
        packed: list[bytes] = []
        # The stream, unlike the single call, waits its turn in a full queue.
        async for answer in self._stub.EmbedStream(requests()):
            digests.add(answer.response.model_digest)
            packed += _rows(answer.response.embeddings)
        return packed, digests

    async def queries(self, texts: Sequence[str], *, no_store: bool = False) -> Vectors:
        """As the Protocol says."""
        answer = await self._by_name(partial(self._asked, texts, no_store))
        if self._digest not in ("", answer.model_digest) and self._names.get(self._digest) != self._digest:
            # Another model bears the name, or is the default, since we looked: look once more.
            self._names.pop(self._digest, None)
            return await self.queries(texts, no_store=no_store)
        return Vectors(answer.model_digest, tuple(_rows(answer.embeddings)))

    async def _asked(self, texts: Sequence[str], no_store: bool, name: str) -> pb.EmbedResponse:
        return await self._stub.Embed(_request(texts, pb.TEXT_ROLE_QUERY, name, no_store=no_store))

    async def rerank(self, query: str, passages: Sequence[str], model: str = "") -> list[float]:
        """As the Protocol says."""
        with failures(_EMBEDDER):
            answer = await self._stub.Rerank(pb.RerankRequest(query=query, passages=passages, model=model))
        return list(answer.scores)


def _facts(model: pb.EmbeddingModel) -> EncoderFacts:
    return EncoderFacts(model.digest, model.dimensions, model.max_tokens, model.model)


def _request(texts: Sequence[str], role: pb.TextRole.ValueType, model: str, *, no_store: bool) -> pb.EmbedRequest:
    return pb.EmbedRequest(model=model, texts=texts, role=role, dtype=tensor_pb2.DTYPE_FLOAT16, no_store=no_store)


def _rows(tensor: tensor_pb2.Tensor) -> list[bytes]:
    """The rows of a matrix of binary16."""
    if not tensor.shape or not tensor.shape[0]:
        return []
    width = len(tensor.data) // tensor.shape[0]
    return [tensor.data[at : at + width] for at in range(0, len(tensor.data), width)]


def _batches(texts: Sequence[str], most: int) -> Iterator[list[str]]:
    """The texts in order, in batches that fit one message."""
    batch: list[str] = []
    size = 0
    for text in texts:
        # Length and tag of the field beside its bytes.
        length = len(text.encode()) + 8
        if batch and (len(batch) == most or size + length > _MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += length
    if batch:
        yield batch


@contextmanager
def failures(service: str) -> Iterator[None]:
    """Turn what the peer ``service`` refuses with, inside the block, into a Failure."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        peer = from_rpc_error(error)
        reason = Reason.__members__.get(peer.reason)
        away = peer.code in _AWAY if reason is None else peer.code is Code.UNAUTHENTICATED
        if away or (peer.code is Code.DEADLINE_EXCEEDED and not _hurried()):
            raise _away(service) from error
        if reason is None and peer.code is Code.DEADLINE_EXCEEDED:
            raise Failure(Reason.DEADLINE_EXCEEDED) from error
        if reason is None:
            raise Failure(Reason.INTERNAL, correlation_id=peer.correlation_id, peer=peer.code.name) from error
        # The text at fault is one that we sent, not a field of our caller's.
        variables = {name: value for name, value in peer.variables.items() if name not in ("correlation_id", "field")}
        raise Failure(
            reason, field=None, retry_after_seconds=peer.retry_after_seconds, violations=(), **variables
        ) from error


def _hurried() -> bool:
    """Whether our own caller's deadline, rather than the peer, ended the call."""
    request = current_or_none()
    return request is not None and request.deadline_seconds is not None


def _away(service: str) -> Failure:
    return Failure(Reason.PEER_UNAVAILABLE, retry_after_seconds=_RETRY_SECONDS, service=service)
