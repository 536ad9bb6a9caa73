"""The service of files over its stub, as vector stores read it."""

from collections.abc import AsyncGenerator

import grpc
from trivium.files.v1 import file_pb2, file_pb2_grpc

from gateway.peers import failures
from gateway.vector_stores.nouns import FileFacts

NAME = "files"


class RemoteFileContents:
    """Implements :class:`gateway.vector_stores.peers.Files`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: file_pb2_grpc.FileServiceAsyncStub = file_pb2_grpc.FileServiceStub(channel)

    async def attach(self, file: str) -> FileFacts:
        """As the Protocol says."""
        with failures.of(NAME):
            found = (await self._stub.AttachFile(file_pb2.AttachFileRequest(file=file))).file
        return FileFacts(found.file, found.filename, found.media_type, found.size_bytes, found.sha256)

    async def require(self, file: str) -> None:
        """As the Protocol says."""
        with failures.of(NAME):
            await self._stub.GetFile(file_pb2.GetFileRequest(file=file))

    async def read(self, file: str) -> AsyncGenerator[bytes]:
        """As the Protocol says."""
        with failures.of(NAME):
            async for piece in self._stub.ReadFile(file_pb2.ReadFileRequest(file=file)):
                if piece.chunk.data:
                    yield piece.chunk.data
