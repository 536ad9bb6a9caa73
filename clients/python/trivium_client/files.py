"""Files that are kept for a purpose."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from trivium.common.v1 import transfer_pb2
from trivium.files.v1 import file_pb2 as pb
from trivium.files.v1.file_pb2_grpc import FileServiceStub

from trivium_client import file_nouns, wire
from trivium_client.errors import from_rpc
from trivium_client.transport import CHUNK_BYTES, Transport, download, new_request_id, size_of

if TYPE_CHECKING:
    from trivium.files.v1.file_pb2_grpc import FileServiceAsyncStub

_SERVICE = "files"
# As OpenAI's clients write them.
PURPOSES = {
    "fine-tune": pb.PURPOSE_FINE_TUNE,
    "batch": pb.PURPOSE_BATCH,
    "assistants": pb.PURPOSE_ASSISTANTS,
    "user_data": pb.PURPOSE_USER_DATA,
    "evals": pb.PURPOSE_EVALS,
    "batch_output": pb.PURPOSE_BATCH_OUTPUT,
    "fine-tune-results": pb.PURPOSE_FINE_TUNE_RESULTS,
}
_WORDS = {number: word for word, number in PURPOSES.items()}


class Files:
    """Files of a tenant: content never changes, and goes when it is deleted or expires."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _stub(self) -> FileServiceAsyncStub:
        stub: FileServiceAsyncStub = self._transport.stub(_SERVICE, FileServiceStub)
        return stub

    async def upload(
        self,
        path: str | Path,
        *,
        purpose: str,
        expires_after_seconds: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> file_nouns.File:
        """Store a file; `purpose` is fine-tune, batch, assistants, user_data or evals.

        `expires_after_seconds` is an hour to 30 days (0: 30 days for batch, else never); `progress` hears (sent, whole)
        in bytes.  Raises ValueError for an unknown purpose.
        """
        path = Path(path)
        header = pb.FileHeader(
            filename=path.name,
            purpose=_purpose(purpose),
            expires_after_seconds=expires_after_seconds,
            request_id=new_request_id(),
        )
        call = self._stub().CreateFile(_messages(path, header, progress), metadata=self._transport.connection.metadata)
        try:
            return _file((await call).file)
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error, self._transport.connection.addresses[_SERVICE]) from None

    async def get(self, file: str) -> file_nouns.File:
        """One file.  Raises NotFoundError."""
        response = await self._transport.call(_SERVICE, self._stub().GetFile, pb.GetFileRequest(file=file))
        return _file(response.file)

    async def list(self, *, purpose: str = "") -> AsyncIterator[file_nouns.File]:
        """Files, newest first, those of one purpose or all.  Raises ValueError for an unknown purpose."""
        request = pb.ListFilesRequest(purpose=_purpose(purpose) if purpose else pb.PURPOSE_UNSPECIFIED)
        while True:
            page = await self._transport.call(_SERVICE, self._stub().ListFiles, request)
            for item in page.files:
                yield _file(item)
            if not page.has_more:
                return
            request.after = page.files[-1].file

    async def read(self, file: str) -> bytes:
        """The whole content, in memory.  Raises NotFoundError."""
        return b"".join([piece async for piece in self._pieces(file, 0)])

    async def download(
        self, file: str, target: str | Path, *, progress: Callable[[int, int], None] | None = None
    ) -> Path:
        """Write the content to a file, whole or not at all; into a folder under its own name.  Where it is then.

        Raises NotFoundError, FileExistsError when other content has that name.
        """
        found = await self.get(file)
        target = Path(target)
        # A name that somebody gave at upload is no path here.
        target = target / (Path(found.filename).name or found.file) if target.is_dir() else target
        await download(
            self._transport,
            _SERVICE,
            target,
            sha256=found.sha256,
            size_bytes=found.size_bytes,
            receive=lambda offset: self._pieces(file, offset),
            progress=progress,
        )
        return target

    async def delete(self, file: str) -> None:
        """Delete a file; what runs, and what it was put into, keeps what it reads.  Raises NotFoundError."""
        await self._transport.call(_SERVICE, self._stub().DeleteFile, pb.DeleteFileRequest(file=file))

    async def _pieces(self, file: str, offset: int) -> AsyncIterator[bytes]:
        request = pb.ReadFileRequest(file=file, offset_bytes=offset)
        async for message in self._transport.stream(_SERVICE, self._stub().ReadFile, request):
            yield message.chunk.data


async def _messages(
    path: Path, header: pb.FileHeader, progress: Callable[[int, int], None] | None
) -> AsyncIterator[pb.CreateFileRequest]:
    yield pb.CreateFileRequest(header=header)
    size, sent, digest = size_of(path), 0, hashlib.sha256()
    # A quarter of a megabyte from the page cache between two sends does not hold the loop up.
    with path.open("rb") as file:
        while piece := file.read(CHUNK_BYTES):
            yield pb.CreateFileRequest(chunk=transfer_pb2.Chunk(offset_bytes=sent, data=piece))
            digest.update(piece)
            sent += len(piece)
            if progress is not None:
                progress(sent, size)
    yield pb.CreateFileRequest(end=pb.FileEnd(size_bytes=sent, sha256=digest.hexdigest()))


def _purpose(word: str) -> pb.Purpose.ValueType:
    if word not in PURPOSES:
        raise ValueError(f"purpose {word!r} is none of {', '.join(PURPOSES)}")
    return PURPOSES[word]


def _file(message: pb.File) -> file_nouns.File:
    created = wire.time(message.create_time)
    assert created is not None
    return file_nouns.File(
        file=message.file,
        filename=message.filename,
        purpose=_WORDS.get(message.purpose, str(message.purpose)),
        size_bytes=message.size_bytes,
        sha256=message.sha256,
        create_time=created,
        expire_time=wire.time(message.expire_time),
    )
