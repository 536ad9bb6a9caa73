"""The inputs of batches at the service of files, over its stubs."""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing

import grpc
from trivium.files.v1 import batch_pb2, batch_pb2_grpc, file_pb2, file_pb2_grpc

from gateway.peers import failures
from gateway.peers.files import NAME
from gateway.replaying.nouns import Line
from services.chassis import batch_lines
from services.chassis.context import current
from services.chassis.errors import Code, Failure, Reason

_PAGE = 100
# Clocks of two machines may be apart.
_SLACK_SECONDS = 60.0


class RemoteLines:
    """Implements :class:`gateway.replaying.peers.Lines`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._batches: batch_pb2_grpc.BatchServiceAsyncStub = batch_pb2_grpc.BatchServiceStub(channel)
        self._files: file_pb2_grpc.FileServiceAsyncStub = file_pb2_grpc.FileServiceStub(channel)

    async def line(self, request_id: str, answered_at: float) -> Line | None:
        """As the Protocol says."""
        # To read whole inputs is dear: what was asked otherwise asks nobody.
        if not batch_lines.may_be_of_a_line(request_id):
            return None
        async with aclosing(self._running(answered_at)) as batches:
            async for batch in batches:
                found = await self._found(batch, request_id)
                if found is not None:
                    return found
        return None

    async def _running(self, at: float) -> AsyncGenerator[batch_pb2.Batch]:
        """The tenant's batches that ran at a time."""
        after, more = "", True
        while more:
            with failures.of(NAME):
                page = await self._batches.ListBatches(batch_pb2.ListBatchesRequest(page_size=_PAGE, after=after))
            for batch in page.batches:
                after = batch.batch
                if _ran(batch, at):
                    yield batch
            more = page.has_more

    async def _found(self, batch: batch_pb2.Batch, request_id: str) -> Line | None:
        tenant = current().tenant_id
        try:
            async with aclosing(self._content(batch.input_file)) as content:
                async for number, text in batch_lines.lines(content):
                    if batch_lines.request_id(tenant, batch.batch, number) == request_id:
                        asked = json.loads(text)
                        return Line(asked["url"], json.dumps(asked["body"]).encode())
        except Failure as failure:
            # Deleted, or nothing for the caller's key.
            if failure.reason is not Reason.FILE_NOT_FOUND and failure.code is not Code.PERMISSION_DENIED:
                raise
        return None

    async def _content(self, file: str) -> AsyncGenerator[bytes]:
        with failures.of(NAME):
            async for piece in self._files.ReadFile(file_pb2.ReadFileRequest(file=file)):
                yield piece.chunk.data


def _ran(batch: batch_pb2.Batch, at: float) -> bool:
    began = batch.create_time.ToMicroseconds() / 1e6 - _SLACK_SECONDS
    ended = batch.end_time.ToMicroseconds() / 1e6 + _SLACK_SECONDS if batch.HasField("end_time") else at
    return began <= at <= ended
