"""One method an RPC: wire to domain, call, domain to wire."""

from collections.abc import AsyncGenerator

from trivium.gateway.v1 import vector_stores_pb2 as pb
from trivium.gateway.v1 import vector_stores_pb2_grpc

from gateway.limits.gate import Gate
from gateway.limits.terms import ONE_REQUEST
from gateway.vector_stores import wire
from gateway.vector_stores.filing import Filing
from gateway.vector_stores.stores import Stores
from services.chassis.interceptors.call import ServicerContext


class VectorStoreServicer(vector_stores_pb2_grpc.VectorStoreServiceServicer):
    """Vector stores; the HTTP transport calls them, too."""

    def __init__(self, stores: Stores, filing: Filing, gate: Gate) -> None:
        self._stores = stores
        self._filing = filing
        self._gate = gate

    async def CreateVectorStore(
        self, request: pb.CreateVectorStoreRequest, context: ServicerContext
    ) -> pb.CreateVectorStoreResponse:
        made = await self._stores.create(wire.draft(request), request.request_id)
        return pb.CreateVectorStoreResponse(vector_store=wire.store(made))

    async def GetVectorStore(
        self, request: pb.GetVectorStoreRequest, context: ServicerContext
    ) -> pb.GetVectorStoreResponse:
        found = await self._stores.get(request.vector_store)
        return pb.GetVectorStoreResponse(vector_store=wire.store(found))

    async def ListVectorStores(
        self, request: pb.ListVectorStoresRequest, context: ServicerContext
    ) -> pb.ListVectorStoresResponse:
        page, more = await self._stores.page(wire.listing(request))
        return pb.ListVectorStoresResponse(vector_stores=map(wire.store, page), has_more=more)

    async def UpdateVectorStore(
        self, request: pb.UpdateVectorStoreRequest, context: ServicerContext
    ) -> pb.UpdateVectorStoreResponse:
        changed = await self._stores.change(request.vector_store, wire.change(request))
        return pb.UpdateVectorStoreResponse(vector_store=wire.store(changed))

    async def DeleteVectorStore(
        self, request: pb.DeleteVectorStoreRequest, context: ServicerContext
    ) -> pb.DeleteVectorStoreResponse:
        await self._stores.remove(request.vector_store)
        return pb.DeleteVectorStoreResponse()

    async def SearchVectorStore(
        self, request: pb.SearchVectorStoreRequest, context: ServicerContext
    ) -> pb.SearchVectorStoreResponse:
        async with self._gate.passing(ONE_REQUEST, context.send_initial_metadata):
            found = await self._stores.search(request.vector_store, wire.query(request))
        return wire.found(request, found)

    async def CreateVectorStoreFile(
        self, request: pb.CreateVectorStoreFileRequest, context: ServicerContext
    ) -> pb.CreateVectorStoreFileResponse:
        put = await self._filing.put(request.vector_store, wire.file_draft(request.file))
        return pb.CreateVectorStoreFileResponse(file=wire.file(put))

    async def GetVectorStoreFile(
        self, request: pb.GetVectorStoreFileRequest, context: ServicerContext
    ) -> pb.GetVectorStoreFileResponse:
        found = await self._filing.get(request.vector_store, request.file)
        return pb.GetVectorStoreFileResponse(file=wire.file(found))

    async def ListVectorStoreFiles(
        self, request: pb.ListVectorStoreFilesRequest, context: ServicerContext
    ) -> pb.ListVectorStoreFilesResponse:
        asked = wire.listing(request, request.status)
        page, more = await self._filing.page(request.vector_store, asked)
        return pb.ListVectorStoreFilesResponse(files=map(wire.file, page), has_more=more)

    async def UpdateVectorStoreFile(
        self, request: pb.UpdateVectorStoreFileRequest, context: ServicerContext
    ) -> pb.UpdateVectorStoreFileResponse:
        attributes = wire.attributes(request)
        changed = await self._filing.describe(request.vector_store, request.file, attributes)
        return pb.UpdateVectorStoreFileResponse(file=wire.file(changed))

    async def DeleteVectorStoreFile(
        self, request: pb.DeleteVectorStoreFileRequest, context: ServicerContext
    ) -> pb.DeleteVectorStoreFileResponse:
        await self._filing.remove(request.vector_store, request.file)
        return pb.DeleteVectorStoreFileResponse()

    async def GetVectorStoreFileContent(
        self, request: pb.GetVectorStoreFileContentRequest, context: ServicerContext
    ) -> AsyncGenerator[pb.GetVectorStoreFileContentResponse]:
        async for text, version in self._filing.text(request.vector_store, request.file):
            yield pb.GetVectorStoreFileContentResponse(text=text, version=version)

    async def CreateVectorStoreFileBatch(
        self, request: pb.CreateVectorStoreFileBatchRequest, context: ServicerContext
    ) -> pb.CreateVectorStoreFileBatchResponse:
        drafts = [wire.file_draft(it) for it in request.files]
        made = await self._filing.batch(request.vector_store, drafts)
        return pb.CreateVectorStoreFileBatchResponse(batch=wire.batch(made))

    async def GetVectorStoreFileBatch(
        self, request: pb.GetVectorStoreFileBatchRequest, context: ServicerContext
    ) -> pb.GetVectorStoreFileBatchResponse:
        found = await self._filing.get_batch(request.vector_store, request.batch)
        return pb.GetVectorStoreFileBatchResponse(batch=wire.batch(found))

    async def CancelVectorStoreFileBatch(
        self, request: pb.CancelVectorStoreFileBatchRequest, context: ServicerContext
    ) -> pb.CancelVectorStoreFileBatchResponse:
        left = await self._filing.cancel(request.vector_store, request.batch)
        return pb.CancelVectorStoreFileBatchResponse(batch=wire.batch(left))

    async def ListVectorStoreFileBatchFiles(
        self, request: pb.ListVectorStoreFileBatchFilesRequest, context: ServicerContext
    ) -> pb.ListVectorStoreFileBatchFilesResponse:
        asked = wire.listing(request, request.status)
        page, more = await self._filing.batch_page(request.vector_store, request.batch, asked)
        return pb.ListVectorStoreFileBatchFilesResponse(files=map(wire.file, page), has_more=more)
