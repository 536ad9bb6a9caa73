"""A form with a file on its way to being an upload: passed on while it comes, whatever order its parts have."""

import hashlib
from collections.abc import AsyncIterator

from trivium.common.v1 import transfer_pb2
from trivium.files.v1 import file_pb2
from trivium.gateway.v1 import files_pb2 as pb

from gateway.http import forms
from gateway.http.transport import Asked
from services.chassis.errors import Failure, Reason

PURPOSES = {
    "fine-tune": file_pb2.PURPOSE_FINE_TUNE,
    "batch": file_pb2.PURPOSE_BATCH,
    "assistants": file_pb2.PURPOSE_ASSISTANTS,
    "user_data": file_pb2.PURPOSE_USER_DATA,
    "evals": file_pb2.PURPOSE_EVALS,
}
_CHUNK_BYTES = 512 * 1024


class Upload:
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
            self._header.purpose = purpose(heard.value)
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


def purpose(text: str) -> file_pb2.Purpose.ValueType:
    """What a file is for that a caller may upload.  Raises FIELD_INVALID."""
    if text not in PURPOSES:
        why = ": no model here reads images" if text == "vision" else f"; one of {', '.join(PURPOSES)}"
        raise Failure(Reason.FIELD_INVALID, field="purpose", problem=f"{text[:64]} is not supported{why}")
    return PURPOSES[text]


def _seconds(heard: forms.Field) -> int:
    digits = heard.value.isascii() and heard.value.isdigit() and len(heard.value) <= 9
    # 0 would mean as long as the purpose has it.
    if not digits or not int(heard.value):
        raise Failure(Reason.FIELD_INVALID, field=heard.name, problem="must be a whole number of seconds, at least 1")
    return int(heard.value)
