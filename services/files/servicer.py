"""The RPCs of files: wire to domain, call, domain to wire."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from trivium.files.v1 import batch_pb2, batch_pb2_grpc, file_pb2, file_pb2_grpc, response_pb2, response_pb2_grpc

from services.chassis import paging
from services.chassis.context import current
from services.chassis.idempotency import key_for
from services.files import wire, wire_batches, wire_responses
from services.files.batches.batch import Creator
from services.files.verbs import Verbs


class FileServicer(file_pb2_grpc.FileServiceServicer):
    """Serves files."""

    def __init__(self, verbs: Verbs) -> None:
        self._do = verbs

    async def CreateFile(
        self, request: AsyncIterator[file_pb2.CreateFileRequest], context: Any
    ) -> file_pb2.CreateFileResponse:
        made = await self._do.receiving.receive(current().tenant_id, wire.parts(request))
        return file_pb2.CreateFileResponse(file=wire.file(made))

    async def GetFile(self, request: file_pb2.GetFileRequest, context: Any) -> file_pb2.GetFileResponse:
        return file_pb2.GetFileResponse(file=wire.file(await self._do.files.get(current().tenant_id, request.file)))

    async def ListFiles(self, request: file_pb2.ListFilesRequest, context: Any) -> file_pb2.ListFilesResponse:
        size = paging.size_of(request.page_size)
        found = await self._do.files.page(current().tenant_id, wire.selection(request), size + 1)
        return wire.listed(found, size)

    async def AttachFile(self, request: file_pb2.AttachFileRequest, context: Any) -> file_pb2.AttachFileResponse:
        attached = await self._do.files.attach(current().tenant_id, request.file)
        return file_pb2.AttachFileResponse(file=wire.file(attached))

    async def DeleteFile(self, request: file_pb2.DeleteFileRequest, context: Any) -> file_pb2.DeleteFileResponse:
        return file_pb2.DeleteFileResponse(attached=await self._do.files.delete(current().tenant_id, request.file))

    async def ReadFile(
        self, request: file_pb2.ReadFileRequest, context: Any
    ) -> AsyncIterator[file_pb2.ReadFileResponse]:
        async with aclosing(self._do.files.read(current().tenant_id, request.file, request.offset_bytes)) as pieces:
            async for piece in pieces:
                yield wire.piece(piece)


class ResponseServicer(response_pb2_grpc.ResponseServiceServicer):
    """Serves stored responses."""

    def __init__(self, verbs: Verbs) -> None:
        self._do = verbs

    async def PutResponse(
        self, request: response_pb2.PutResponseRequest, context: Any
    ) -> response_pb2.PutResponseResponse:
        kept = await self._do.responses.put(current().tenant_id, wire_responses.turn(request))
        return response_pb2.PutResponseResponse(response=wire_responses.response(kept, whole=False))

    async def GetResponse(
        self, request: response_pb2.GetResponseRequest, context: Any
    ) -> response_pb2.GetResponseResponse:
        found = await self._do.responses.get(current().tenant_id, request.response)
        return response_pb2.GetResponseResponse(response=wire_responses.response(found))

    async def ReadConversation(
        self, request: response_pb2.ReadConversationRequest, context: Any
    ) -> AsyncIterator[response_pb2.ReadConversationResponse]:
        tenant = current().tenant_id
        for response in await self._do.responses.conversation(tenant, request.response):
            for message in wire_responses.messages(await self._do.responses.turn(tenant, response)):
                yield message

    async def DeleteResponse(
        self, request: response_pb2.DeleteResponseRequest, context: Any
    ) -> response_pb2.DeleteResponseResponse:
        await self._do.responses.delete(current().tenant_id, request.response)
        return response_pb2.DeleteResponseResponse()

    async def ListInputItems(
        self, request: response_pb2.ListInputItemsRequest, context: Any
    ) -> response_pb2.ListInputItemsResponse:
        found = await self._do.responses.items(current().tenant_id, request.response)
        return wire_responses.listed(request, found)


class BatchServicer(batch_pb2_grpc.BatchServiceServicer):
    """Serves batches."""

    def __init__(self, verbs: Verbs) -> None:
        self._do = verbs

    async def CreateBatch(self, request: batch_pb2.CreateBatchRequest, context: Any) -> batch_pb2.CreateBatchResponse:
        asking = current()
        made = await self._do.batches.create(
            asking.tenant_id,
            Creator(asking.principal_id, asking.rights),
            wire_batches.order(request),
            key_for(request),
        )
        return batch_pb2.CreateBatchResponse(batch=wire_batches.batch(made))

    async def GetBatch(self, request: batch_pb2.GetBatchRequest, context: Any) -> batch_pb2.GetBatchResponse:
        found = await self._do.batches.get(current().tenant_id, request.batch)
        return batch_pb2.GetBatchResponse(batch=wire_batches.batch(found))

    async def ListBatches(self, request: batch_pb2.ListBatchesRequest, context: Any) -> batch_pb2.ListBatchesResponse:
        size = wire_batches.size(request)
        found = await self._do.batches.page(current().tenant_id, request.after, size + 1)
        return wire_batches.listed(found, size)

    async def CancelBatch(self, request: batch_pb2.CancelBatchRequest, context: Any) -> batch_pb2.CancelBatchResponse:
        found = await self._do.batches.cancel(current().tenant_id, request.batch)
        return batch_pb2.CancelBatchResponse(batch=wire_batches.batch(found))
