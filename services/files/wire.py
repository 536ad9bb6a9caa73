"""Between protobuf and the files of the domain: with the other ``wire`` files, the only ones that know both."""

from collections.abc import AsyncIterable, AsyncIterator

from google.protobuf.timestamp_pb2 import Timestamp
from trivium.common.v1 import transfer_pb2
from trivium.files.v1 import file_pb2 as pb

from services.chassis import paging
from services.chassis.idempotency import key_for
from services.chassis.streams import Chunk, Seal
from services.files.files import File, Piece, Purpose, Selection, Wish
from services.files.receiving import Announced

_PURPOSES = {
    Purpose.FINE_TUNE: pb.PURPOSE_FINE_TUNE,
    Purpose.BATCH: pb.PURPOSE_BATCH,
    Purpose.ASSISTANTS: pb.PURPOSE_ASSISTANTS,
    Purpose.USER_DATA: pb.PURPOSE_USER_DATA,
    Purpose.EVALS: pb.PURPOSE_EVALS,
    Purpose.BATCH_OUTPUT: pb.PURPOSE_BATCH_OUTPUT,
    Purpose.FINE_TUNE_RESULTS: pb.PURPOSE_FINE_TUNE_RESULTS,
}
_PURPOSES_BACK = {number: purpose for purpose, number in _PURPOSES.items()}


def time(seconds: float | None) -> Timestamp | None:
    """A moment, to the microsecond."""
    if seconds is None:
        return None
    stamp = Timestamp()
    stamp.FromMicroseconds(round(seconds * 1e6))
    return stamp


async def parts(requests: AsyncIterable[pb.CreateFileRequest]) -> AsyncIterator[Announced | Chunk | Seal]:
    """The messages of an upload."""
    async for request in requests:
        kind = request.WhichOneof("part")
        if kind == "header":
            yield Announced(_wish(request.header), key_for(request.header))
        elif kind == "end":
            yield Seal(request.end.size_bytes, request.end.sha256)
        else:
            yield request.chunk


def _wish(message: pb.FileHeader) -> Wish:
    expires = float(message.expires_after_seconds) if message.expires_after_seconds else None
    return Wish(message.filename, _PURPOSES_BACK[message.purpose], message.media_type, expires)


def file(value: File) -> pb.File:
    """A file as the API shows it."""
    return pb.File(
        file=value.file,
        filename=value.filename,
        purpose=_PURPOSES[value.purpose],
        size_bytes=value.size_bytes,
        sha256=value.sha256,
        media_type=value.media_type,
        create_time=time(value.created_at),
        expire_time=time(value.expires_at),
        attached=value.attached,
    )


def selection(request: pb.ListFilesRequest) -> Selection:
    """Which files a list shows."""
    return Selection(_PURPOSES_BACK.get(request.purpose), request.after, request.order == pb.ORDER_ASCENDING)


def listed(found: list[File], size: int) -> pb.ListFilesResponse:
    """A page of at most ``size`` of what was found, as many as go into one answer."""
    shown = paging.fitting([file(item) for item in found[:size]])
    return pb.ListFilesResponse(files=shown, has_more=len(found) > len(shown))


def piece(value: Piece) -> pb.ReadFileResponse:
    """A piece of a file."""
    chunk = transfer_pb2.Chunk(offset_bytes=value.offset_bytes, data=value.content)
    return pb.ReadFileResponse(chunk=chunk, size_bytes=value.size_bytes)
