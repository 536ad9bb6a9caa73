"""Between our messages of files and those of the service that owns them: the same facts in another package."""

from collections.abc import AsyncIterable, AsyncIterator

from trivium.files.v1 import file_pb2
from trivium.gateway.v1 import files_pb2 as pb


async def upload(requests: AsyncIterable[pb.CreateFileRequest]) -> AsyncIterator[file_pb2.CreateFileRequest]:
    """The messages of an upload."""
    async for request in requests:
        kind = request.WhichOneof("part")
        if kind == "header":
            yield file_pb2.CreateFileRequest(header=request.header)
        elif kind == "end":
            yield file_pb2.CreateFileRequest(end=request.end)
        else:
            yield file_pb2.CreateFileRequest(chunk=request.chunk)


def wanted(request: pb.ListFilesRequest) -> file_pb2.ListFilesRequest:
    """Which files a list shows."""
    return file_pb2.ListFilesRequest(
        purpose=request.purpose, page_size=request.page_size, after=request.after, order=request.order
    )


def listed(answer: file_pb2.ListFilesResponse) -> pb.ListFilesResponse:
    """A page of files."""
    return pb.ListFilesResponse(files=answer.files, has_more=answer.has_more)


def piece(answer: file_pb2.ReadFileResponse) -> pb.ReadFileResponse:
    """A piece of a file."""
    return pb.ReadFileResponse(chunk=answer.chunk, size_bytes=answer.size_bytes)
