"""/v1/files: upload, list, retrieve, delete, content."""

import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated, Any, Literal

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from pydantic import Field
from trivium.common.v1 import transfer_pb2
from trivium.files.v1 import file_pb2
from trivium.gateway.v1 import files_pb2 as pb

from gateway.http import forms, queries
from gateway.http.answers import NoQuery
from gateway.http.routes import Route
from gateway.http.parsing import Strict
from gateway.http.transport import Asked
from gateway.servicers import Servicers
from services.chassis.errors import Failure, Reason
from services.chassis.interceptors.call import ServicerContext

_PURPOSES = {
    "fine-tune": file_pb2.PURPOSE_FINE_TUNE,
    "batch": file_pb2.PURPOSE_BATCH,
    "assistants": file_pb2.PURPOSE_ASSISTANTS,
    "user_data": file_pb2.PURPOSE_USER_DATA,
    "evals": file_pb2.PURPOSE_EVALS,
}
# What others write and callers only list.
_WRITTEN = {
    "batch_output": file_pb2.PURPOSE_BATCH_OUTPUT,
    "fine-tune-results": file_pb2.PURPOSE_FINE_TUNE_RESULTS,
}
_NAMES = {number: name for name, number in {**_PURPOSES, **_WRITTEN}.items()}
_CHUNK_BYTES = 512 * 1024
_MOST = 10_000


class FileForm(Strict):
    """The form of an upload: one file and what it is for."""

    file: Annotated[bytes, Field(json_schema_extra={"format": "binary"})]
    purpose: Literal["fine-tune", "batch", "assistants", "user_data", "evals"]
    anchor: Literal["created_at"] = Field("created_at", alias="expires_after[anchor]")
    seconds: int = Field(0, alias="expires_after[seconds]")


class FilesQuery(Strict):
    """Which files, and how many."""

    purpose: str = ""
    limit: int = Field(_MOST, ge=1, le=_MOST)
    order: Literal["asc", "desc"] = "desc"
    after: str = ""


class FileShown(Strict):
    """A file."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: Literal["processed"]
    status_details: None
    expires_at: int = 0


class FilesShown(Strict):
    """A page of files."""

    object: Literal["list"]
    data: list[FileShown]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileDeleted(Strict):
    """A file that is gone."""

    id: str
    object: Literal["file"]
    deleted: Literal[True]


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
        form = _Upload(self.request_id)
        made = await self._servicer.CreateFile(form.messages(self._asked), context)
        yield json.dumps(rendered(made.file)).encode()


class _Upload:
    """A form on its way to being an upload."""

    def __init__(self, request_id: str) -> None:
        self._header = file_pb2.FileHeader(request_id=request_id)
        self._waiting = bytearray()
        self._sent_bytes = 0
        self._digest = hashlib.sha256()
        self._begun = False
        self._anchored = False

    async def messages(self, asked: Asked) -> AsyncIterator[pb.CreateFileRequest]:
        """Chunks as they come; the header behind them, since a form's fields may stand behind its file."""
        async for heard in forms.read(asked.stream, asked.content_type):
            if isinstance(heard, forms.Field):
                self._field(heard)
            elif isinstance(heard, forms.FileBegun):
                self._file(heard)
            else:
                self._waiting.extend(heard)
                while len(self._waiting) >= _CHUNK_BYTES:
                    yield self._chunk()
        if self._waiting:
            yield self._chunk()
        self._require_whole()
        yield pb.CreateFileRequest(header=self._header)
        end = file_pb2.FileEnd(size_bytes=self._sent_bytes, sha256=self._digest.hexdigest())
        yield pb.CreateFileRequest(end=end)

    def _field(self, heard: forms.Field) -> None:
        if heard.name == "purpose":
            self._header.purpose = _purpose(heard.value)
        elif heard.name == "expires_after[anchor]":
            if heard.value != "created_at":
                raise Failure(Reason.FIELD_INVALID, field=heard.name, problem="must be created_at")
            self._anchored = True
        elif heard.name == "expires_after[seconds]":
            self._header.expires_after_seconds = _seconds(heard)
        else:
            raise Failure(Reason.PARAMETER_UNSUPPORTED, field=heard.name[:64], why="")

    def _file(self, heard: forms.FileBegun) -> None:
        if heard.name != "file" or self._begun:
            raise Failure(
                Reason.FIELD_INVALID, field=heard.name[:64] or "file", problem="one file is taken, named file"
            )
        self._begun = True
        self._header.filename, self._header.media_type = heard.filename, heard.media_type

    def _chunk(self) -> pb.CreateFileRequest:
        data = bytes(self._waiting[:_CHUNK_BYTES])
        del self._waiting[:_CHUNK_BYTES]
        chunk = transfer_pb2.Chunk(offset_bytes=self._sent_bytes, data=data)
        self._sent_bytes += len(data)
        self._digest.update(data)
        return pb.CreateFileRequest(chunk=chunk)

    def _require_whole(self) -> None:
        if not self._begun:
            raise Failure(Reason.FIELD_INVALID, field="file", problem="is required")
        if not self._header.purpose:
            raise Failure(Reason.FIELD_INVALID, field="purpose", problem="is required")
        if self._anchored and not self._header.expires_after_seconds:
            problem = "is required beside expires_after[anchor]"
            raise Failure(Reason.FIELD_INVALID, field="expires_after[seconds]", problem=problem)


class ListExchange(_Exchange):
    """A page of files."""

    def parse(self, asked: Asked) -> Message:
        """As Exchange."""
        query = asked.query
        queries.only(query, "purpose", "limit", "after", "order")
        purpose = query.get("purpose")
        return pb.ListFilesRequest(
            purpose=file_pb2.PURPOSE_UNSPECIFIED if purpose is None else _any_purpose(purpose),
            page_size=queries.limit(query) or _MOST,
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


def _purpose(text: str) -> file_pb2.Purpose.ValueType:
    if text not in _PURPOSES:
        why = ": no model here reads images" if text == "vision" else f"; one of {', '.join(_PURPOSES)}"
        raise Failure(Reason.FIELD_INVALID, field="purpose", problem=f"{text[:64]} is not supported{why}")
    return _PURPOSES[text]


def _any_purpose(text: str) -> file_pb2.Purpose.ValueType:
    return _WRITTEN[text] if text in _WRITTEN else _purpose(text)


def _seconds(heard: forms.Field) -> int:
    digits = heard.value.isascii() and heard.value.isdigit() and len(heard.value) <= 9
    # 0 would mean as long as the purpose has it.
    if not digits or not int(heard.value):
        raise Failure(Reason.FIELD_INVALID, field=heard.name, problem="must be a whole number of seconds, at least 1")
    return int(heard.value)


_SERVICE = pb.DESCRIPTOR.services_by_name["FileService"]
ROUTES = (
    Route(
        "POST",
        "/v1/files",
        CreateExchange,
        streamed=True,
        rpc=_SERVICE.methods_by_name["CreateFile"],
        summary="A file for a purpose, uploaded as a form.",
        body=FileForm,
        query=NoQuery,
        answer=FileShown,
    ),
    Route("GET", "/v1/files", ListExchange, summary="The files.", query=FilesQuery, answer=FilesShown),
    Route("GET", "/v1/files/{file}", GetExchange, summary="One file.", query=NoQuery, answer=FileShown),
    Route("DELETE", "/v1/files/{file}", DeleteExchange, summary="Delete a file.", query=NoQuery, answer=FileDeleted),
    Route(
        "GET",
        "/v1/files/{file}/content",
        ContentExchange,
        media_type="application/octet-stream",
        summary="A file's bytes.",
        query=NoQuery,
    ),
)
