"""A multipart form as it comes: its fields, and the one file in it, piece by piece.

Invariant: nothing of the file is held beyond one piece, however long it is and wherever it stands in the form.
"""

from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass, field

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from services.chassis.errors import Failure, Reason

_FIELD_BYTES = 1024
_MOST_PARTS = 16


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a form."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class FileBegun:
    """The file's part has begun."""

    name: str
    filename: str
    media_type: str


@dataclass(slots=True)
class _Part:
    name: str = ""
    filename: str | None = None
    media_type: str = ""
    value: bytearray = field(default_factory=bytearray)


class _Form:
    """What the parser says of the bytes that it was last given."""

    def __init__(self, boundary: bytes) -> None:
        self.heard: list[Field | FileBegun | bytes] = []
        self.ended = False
        self._parts = 0
        self._part = _Part()
        self._header_name, self._header_value = bytearray(), bytearray()
        self.parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self._header_name.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._header_value.extend(data[start:end]),
                "on_header_end": self._header,
                "on_headers_finished": self._named,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_end": self._over,
            },
        )

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise Failure(Reason.FIELD_INVALID, field="body", problem=f"the form has more than {_MOST_PARTS} parts")
        self._part = _Part()

    def _header(self) -> None:
        name, value = bytes(self._header_name).lower(), bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()
        if name == b"content-disposition":
            options = parse_options_header(value)[1]
            self._part.name = options.get(b"name", b"").decode(errors="replace")
            if b"filename" in options:
                self._part.filename = options[b"filename"].decode(errors="replace")
        elif name == b"content-type":
            self._part.media_type = value.decode("latin-1")

    def _named(self) -> None:
        if self._part.filename is not None:
            self.heard.append(FileBegun(self._part.name, self._part.filename, self._part.media_type))

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._part.filename is not None:
            self.heard.append(data[start:end])
            return
        self._part.value.extend(data[start:end])
        if len(self._part.value) > _FIELD_BYTES:
            problem = f"has more than {_FIELD_BYTES} bytes; a file's part has a filename"
            raise Failure(Reason.FIELD_INVALID, field=self._part.name or "body", problem=problem)

    def _end(self) -> None:
        if self._part.filename is None:
            self.heard.append(Field(self._part.name, self._part.value.decode(errors="replace")))

    def _over(self) -> None:
        self.ended = True


async def read(body: AsyncIterable[bytes], content_type: str) -> AsyncIterator[Field | FileBegun | bytes]:
    """The form's fields, its file's beginning and its file's bytes, in their order.  Raises FIELD_INVALID."""
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise Failure(Reason.FIELD_INVALID, field="body", problem="must be a form (multipart/form-data) with a file")
    form = _Form(options[b"boundary"])
    async for piece in body:
        try:
            form.parser.write(piece)
        except MultipartParseError:
            raise Failure(Reason.FIELD_INVALID, field="body", problem="is no well-formed form") from None
        for heard in form.heard:
            yield heard
        form.heard.clear()
    if not form.ended:
        raise Failure(Reason.FIELD_INVALID, field="body", problem="the form breaks off before its end")
