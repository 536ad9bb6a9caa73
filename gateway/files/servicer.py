"""The RPCs of files; the HTTP transport calls them, too."""

from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing

from trivium.gateway.v1 import files_pb2 as pb
from trivium.gateway.v1 import files_pb2_grpc

from gateway.files import wire
from gateway.files.deletion import Deletion
from gateway.peers.files import RemoteFiles
from services.chassis.interceptors.call import ServicerContext


class FileServicer(files_pb2_grpc.FileServiceServicer):
    """Serves files."""

    def __init__(self, files: RemoteFiles, deletion: Deletion) -> None:
        self._files = files
        self._deletion = deletion

    async def CreateFile(
        self, request: AsyncIterable[pb.CreateFileRequest], context: ServicerContext
    ) -> pb.CreateFileResponse:
        return pb.CreateFileResponse(file=await self._files.create(wire.upload(request)))

    async def GetFile(self, request: pb.GetFileRequest, context: ServicerContext) -> pb.GetFileResponse:
        return pb.GetFileResponse(file=await self._files.get(request.file))

    async def ListFiles(self, request: pb.ListFilesRequest, context: ServicerContext) -> pb.ListFilesResponse:
        return wire.listed(await self._files.page(wire.wanted(request)))

    async def DeleteFile(self, request: pb.DeleteFileRequest, context: ServicerContext) -> pb.DeleteFileResponse:
        await self._deletion.delete(request.file)
        return pb.DeleteFileResponse()

    async def ReadFile(
        self, request: pb.ReadFileRequest, context: ServicerContext
    ) -> AsyncGenerator[pb.ReadFileResponse]:
        async with aclosing(self._files.read(request.file, request.offset_bytes)) as pieces:
            async for piece in pieces:
                yield wire.piece(piece)
