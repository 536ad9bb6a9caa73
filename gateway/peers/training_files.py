"""Files to learn from, and what was measured, over the stub of the service that keeps files."""

import hashlib
from collections.abc import AsyncIterator, Iterator

import grpc
from trivium.common.v1 import transfer_pb2
from trivium.files.v1 import file_pb2, file_pb2_grpc

from gateway.fine_tuning.training import StoredFile
from gateway.peers import failures

NAME = "files"
_PIECE_BYTES = 512 * 1024


class RemoteTrainingFiles:
    """Implements :class:`gateway.fine_tuning.training.Files`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: file_pb2_grpc.FileServiceAsyncStub = file_pb2_grpc.FileServiceStub(channel)

    async def describe(self, file: str) -> StoredFile:
        """As the Protocol says."""
        with failures.of(NAME):
            found = (await self._stub.GetFile(file_pb2.GetFileRequest(file=file))).file
        trainable = found.purpose == file_pb2.PURPOSE_FINE_TUNE
        return StoredFile(found.file, found.filename, found.size_bytes, found.sha256, trainable)

    async def read(self, file: str) -> AsyncIterator[bytes]:
        """As the Protocol says."""
        with failures.of(NAME):
            async for piece in self._stub.ReadFile(file_pb2.ReadFileRequest(file=file)):
                yield piece.chunk.data

    async def write_results(self, filename: str, content: bytes, request_id: str) -> str:
        """As the Protocol says."""
        header = file_pb2.FileHeader(
            filename=filename,
            purpose=file_pb2.PURPOSE_FINE_TUNE_RESULTS,
            media_type="text/csv",
            request_id=request_id,
        )
        with failures.of(NAME):
            stored = await self._stub.CreateFile(_parts(header, content))
        return stored.file.file


def _parts(header: file_pb2.FileHeader, content: bytes) -> Iterator[file_pb2.CreateFileRequest]:
    yield file_pb2.CreateFileRequest(header=header)
    for begin in range(0, len(content), _PIECE_BYTES):
        chunk = transfer_pb2.Chunk(offset_bytes=begin, data=content[begin : begin + _PIECE_BYTES])
        yield file_pb2.CreateFileRequest(chunk=chunk)
    end = file_pb2.FileEnd(size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    yield file_pb2.CreateFileRequest(end=end)
