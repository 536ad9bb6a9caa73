"""/v1/files: upload, list, retrieve, delete, content."""

import json
from collections.abc import AsyncGenerator
from typing import Any

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from trivium.files.v1 import file_pb2
from trivium.gateway.v1 import files_pb2 as pb

from gateway.http import queries, uploads
from gateway.http.answers import NoQuery
from gateway.http.file_answers import MOST, FileDeleted, FileForm, FileShown, FilesQuery, FilesShown
from gateway.http.routes import Route
from gateway.http.transport import Asked
from gateway.servicers import Servicers
from services.chassis.interceptors.call import ServicerContext

# What others write and callers only list.
_WRITTEN = {
    "batch_output": file_pb2.PURPOSE_BATCH_OUTPUT,
    "fine-tune-results": file_pb2.PURPOSE_FINE_TUNE_RESULTS,
}
_NAMES = {number: name for name, number in {**uploads.PURPOSES, **_WRITTEN}.items()}


class _Exchange:
    """What all of these share."""

    stream = False

    def __init__(self, servicers: Servicers, request_id: str) -> None:
        self.request_id = request_id
        self.sent: dict[str, str] = {
            "header.filename": "file",
            "header.expires_after_seconds": "expires_after[seconds]",
            "page_size": "limit",
        }
        self._servicer = servicers.files


class CreateExchange(_Exchange):
    """A form with a file, passed on while it comes."""

    def parse(self, asked: Asked) -> Message:
        """As Exchange; the request is its body, which is read while it is answered."""
        queries.only(asked.query)
        self._asked = asked
        return Empty()

    async def answer(self, message: Empty, context: ServicerContext) -> AsyncGenerator[bytes]:
        """As Exchange."""
        form = uploads.Upload(self.request_id)
        made = await self._servicer.CreateFile(form.messages(self._asked), context)
        yield json.dumps(rendered(made.file)).encode()


class ListExchange(_Exchange):
    """A page of files."""

    def parse(self, asked: Asked) -> Message:
        """As Exchange."""
        query = asked.query
        queries.only(query, "purpose", "limit", "after", "order")
        purpose = query.get("purpose")
        return pb.ListFilesRequest(
            purpose=file_pb2.PURPOSE_UNSPECIFIED if purpose is None else _any_purpose(purpose),
            page_size=queries.limit(query) or MOST,
            after=query.get("after", ""),
            order=queries.order(query),
        )

    async def answer(self, message: pb.ListFilesRequest, context: ServicerContext) -> AsyncGenerator[bytes]:
        """As Exchange."""
        found = await self._servicer.ListFiles(message, context)
        yield json.dumps(queries.page([rendered(item) for item in found.files], has_more=found.has_more)).encode()


class GetExchange(_Exchange):
    """One file."""

    def parse(self, asked: Asked) -> Message:
        """As Exchange."""
        queries.only(asked.query)
        return pb.GetFileRequest(file=asked.path["file"])

    async def answer(self, message: pb.GetFileRequest, context: ServicerContext) -> AsyncGenerator[bytes]:
        """As Exchange."""
        yield json.dumps(rendered((await self._servicer.GetFile(message, context)).file)).encode()


class DeleteExchange(_Exchange):
    """A deletion."""

    def parse(self, asked: Asked) -> Message:
        """As Exchange."""
        queries.only(asked.query)
        return pb.DeleteFileRequest(file=asked.path["file"])

    async def answer(self, message: pb.DeleteFileRequest, context: ServicerContext) -> AsyncGenerator[bytes]:
        """As Exchange."""
        await self._servicer.DeleteFile(message, context)
        yield json.dumps({"id": message.file, "object": "file", "deleted": True}).encode()


class ContentExchange(_Exchange):
    """A file's bytes."""

    def parse(self, asked: Asked) -> Message:
        """As Exchange."""
        queries.only(asked.query)
        return pb.ReadFileRequest(file=asked.path["file"])

    async def answer(self, message: pb.ReadFileRequest, context: ServicerContext) -> AsyncGenerator[bytes]:
        """As Exchange."""
        async for piece in self._servicer.ReadFile(message, context):
            yield piece.chunk.data


def rendered(file: file_pb2.File) -> dict[str, Any]:
    """A file as OpenAI shows one; what is stored needs no more processing."""
    shown = {
        "id": file.file,
        "object": "file",
        "bytes": file.size_bytes,
        "created_at": file.create_time.seconds,
        "filename": file.filename,
        "purpose": _NAMES[file.purpose],
        "status": "processed",
        "status_details": None,
    }
    if file.HasField("expire_time"):
        shown["expires_at"] = file.expire_time.seconds
    return shown


def _any_purpose(text: str) -> file_pb2.Purpose.ValueType:
    return _WRITTEN[text] if text in _WRITTEN else uploads.purpose(text)


_RPCS = pb.DESCRIPTOR.services_by_name["FileService"].methods_by_name
ROUTES = (
    Route(
        "POST",
        "/v1/files",
        CreateExchange,
        streamed=True,
        rpc=_RPCS["CreateFile"],
        summary="A file for a purpose, uploaded as a form.",
        body=FileForm,
        query=NoQuery,
        answer=FileShown,
    ),
    Route(
        "GET",
        "/v1/files",
        ListExchange,
        rpc=_RPCS["ListFiles"],
        summary="The files.",
        query=FilesQuery,
        answer=FilesShown,
    ),
    Route(
        "GET",
        "/v1/files/{file}",
        GetExchange,
        rpc=_RPCS["GetFile"],
        summary="One file.",
        query=NoQuery,
        answer=FileShown,
    ),
    Route(
        "DELETE",
        "/v1/files/{file}",
        DeleteExchange,
        rpc=_RPCS["DeleteFile"],
        summary="Delete a file, and take it out of vector stores.",
        query=NoQuery,
        answer=FileDeleted,
    ),
    Route(
        "GET",
        "/v1/files/{file}/content",
        ContentExchange,
        media_type="application/octet-stream",
        rpc=_RPCS["ReadFile"],
        summary="A file's bytes.",
        query=NoQuery,
    ),
)
