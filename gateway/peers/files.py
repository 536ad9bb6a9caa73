"""Files at the service that owns them, over its stubs."""

from collections.abc import AsyncGenerator, AsyncIterator

import grpc
from trivium.files.v1 import file_pb2 as pb
from trivium.files.v1 import file_pb2_grpc

from gateway.peers import failures

NAME = "files"


class RemoteFiles:
    """Files of the caller's tenant.  Raises Failure."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: file_pb2_grpc.FileServiceAsyncStub = file_pb2_grpc.FileServiceStub(channel)

    async def create(self, upload: AsyncIterator[pb.CreateFileRequest]) -> pb.File:
        """Pass an upload on, message by message, as fast as it is taken.

        What ``upload`` raises ends the upload there, and is raised here.
        """
        failed: list[Exception] = []

        async def watched() -> AsyncIterator[pb.CreateFileRequest]:
            # gRPC would end the call with a text of its own where its iterator raises.
            try:
                async for message in upload:
                    yield message
            except Exception as error:  # noqa: BLE001  # it is raised below, where the caller sees it
                failed.append(error)
                call.cancel()

        call = self._stub.CreateFile(watched())
        try:
            with failures.of(NAME):
                return (await call).file
        finally:
            if failed:
                raise failed[0]

    async def get(self, file: str) -> pb.File:
        """One file."""
        with failures.of(NAME):
            return (await self._stub.GetFile(pb.GetFileRequest(file=file))).file

    async def page(self, wanted: pb.ListFilesRequest) -> pb.ListFilesResponse:
        """A page of files."""
        with failures.of(NAME):
            return await self._stub.ListFiles(wanted)

    async def attached(self, file: str) -> bool:
        """As :class:`gateway.files.peers.Files`."""
        return (await self.get(file)).attached

    async def delete(self, file: str) -> bool:
        """As :class:`gateway.files.peers.Files`."""
        with failures.of(NAME):
            return (await self._stub.DeleteFile(pb.DeleteFileRequest(file=file))).attached

    async def read(self, file: str, offset_bytes: int) -> AsyncGenerator[pb.ReadFileResponse]:
        """The bytes from an offset."""
        with failures.of(NAME):
            async for message in self._stub.ReadFile(pb.ReadFileRequest(file=file, offset_bytes=offset_bytes)):
                yield message
