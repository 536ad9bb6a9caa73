"""Batches: a file of requests, run beside live traffic, and the file of their answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING

from trivium.files.v1 import batch_pb2 as pb
from trivium.files.v1.batch_pb2_grpc import BatchServiceStub

from trivium_client import file_nouns, wire
from trivium_client.transport import Transport, new_request_id

if TYPE_CHECKING:
    from trivium.files.v1.batch_pb2_grpc import BatchServiceAsyncStub

_SERVICE = "files"
_BETWEEN_SECONDS = 0.5
ENDPOINTS = {
    "/v1/chat/completions": pb.BATCH_ENDPOINT_CHAT_COMPLETIONS,
    "/v1/completions": pb.BATCH_ENDPOINT_COMPLETIONS,
    "/v1/embeddings": pb.BATCH_ENDPOINT_EMBEDDINGS,
    "/v1/responses": pb.BATCH_ENDPOINT_RESPONSES,
}
_PATHS = {number: path for path, number in ENDPOINTS.items()}


class Batches:
    """Batches of a tenant."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _stub(self) -> BatchServiceAsyncStub:
        stub: BatchServiceAsyncStub = self._transport.stub(_SERVICE, BatchServiceStub)
        return stub

    async def create(
        self,
        input_file: str,
        *,
        endpoint: str = "/v1/chat/completions",
        window_seconds: int = 0,
        metadata: Mapping[str, str] | None = None,
    ) -> file_nouns.Batch:
        """Begin a batch over a file of purpose batch, whose lines are {"custom_id", "method", "url", "body"}.

        `window_seconds` is a minute to seven days (0: a day).  Raises ValueError for an unknown endpoint, NotFoundError
        for an unknown file.
        """
        if endpoint not in ENDPOINTS:
            raise ValueError(f"endpoint {endpoint!r} is none of {', '.join(ENDPOINTS)}")
        request = pb.CreateBatchRequest(
            input_file=input_file,
            endpoint=ENDPOINTS[endpoint],
            completion_window_seconds=window_seconds,
            metadata=metadata or {},
            request_id=new_request_id(),
        )
        response = await self._transport.call(_SERVICE, self._stub().CreateBatch, request)
        return _batch(response.batch)

    async def get(self, batch: str) -> file_nouns.Batch:
        """One batch.  Raises NotFoundError."""
        response = await self._transport.call(_SERVICE, self._stub().GetBatch, pb.GetBatchRequest(batch=batch))
        return _batch(response.batch)

    async def list(self) -> AsyncIterator[file_nouns.Batch]:
        """Batches, newest first."""
        request = pb.ListBatchesRequest(page_size=100)
        while True:
            page = await self._transport.call(_SERVICE, self._stub().ListBatches, request)
            for item in page.batches:
                yield _batch(item)
            if not page.has_more:
                return
            request.after = page.batches[-1].batch

    async def cancel(self, batch: str) -> file_nouns.Batch:
        """End a batch early; what was answered is in its output file.  Raises NotFoundError, PreconditionError."""
        response = await self._transport.call(_SERVICE, self._stub().CancelBatch, pb.CancelBatchRequest(batch=batch))
        return _batch(response.batch)

    async def wait(self, batch: str, told: Callable[[file_nouns.Batch], None] | None = None) -> file_nouns.Batch:
        """Wait until a batch has ended; `told` hears how far it is.  Raises NotFoundError."""
        while True:
            found = await self.get(batch)
            if told is not None:
                told(found)
            if found.ended:
                return found
            await asyncio.sleep(_BETWEEN_SECONDS)


def _batch(message: pb.Batch) -> file_nouns.Batch:
    created, expires = wire.time(message.create_time), wire.time(message.expire_time)
    assert created is not None
    assert expires is not None
    return file_nouns.Batch(
        batch=message.batch,
        state=wire.word(pb.BatchState, message.state),
        endpoint=_PATHS.get(message.endpoint, str(message.endpoint)),
        total=message.total,
        completed=message.completed,
        failed=message.failed,
        input_file=message.input_file,
        output_file=message.output_file,
        error_file=message.error_file,
        prompt_tokens=message.usage.prompt_tokens,
        completion_tokens=message.usage.completion_tokens,
        metadata=dict(message.metadata),
        problems=tuple(
            file_nouns.BatchProblem(each.line, each.code, each.param, each.message) for each in message.problems
        ),
        create_time=created,
        expire_time=expires,
        end_time=wire.time(message.end_time),
    )
