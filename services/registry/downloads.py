"""Bytes go out to those whose versions name them: a digest alone is no right to read."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.chassis.blobs import Blobs
from services.chassis.database import Database
from services.chassis.errors import Failure, Reason
from services.registry.callers import Caller
from services.registry.store import FileRow
from services.registry.versions import held_bytes


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a file, in order; ``size_bytes`` is the length of the whole."""

    offset_bytes: int
    content: bytes
    size_bytes: int


class Downloads:
    """Reads blobs for callers that may."""

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._database = database
        self._blobs = blobs

    async def read(self, caller: Caller, sha256: str, offset_bytes: int) -> AsyncGenerator[Piece]:
        """The bytes from an offset; one empty piece at the very end.  Raises BLOB_NOT_FOUND, OFFSET_BEYOND_END."""
        size_bytes = await self._database.read(lambda session: _readable_bytes(session, caller, sha256))
        if size_bytes is None:
            raise Failure(Reason.BLOB_NOT_FOUND, name=sha256)
        if offset_bytes > size_bytes:
            raise Failure(Reason.OFFSET_BEYOND_END, offset=offset_bytes, size_bytes=size_bytes)
        position = offset_bytes
        async for content in self._blobs.read(sha256, offset_bytes):
            yield Piece(position, content, size_bytes)
            position += len(content)
        if position == offset_bytes:
            yield Piece(position, b"", size_bytes)


def _readable_bytes(session: Session, caller: Caller, sha256: str) -> int | None:
    if not caller.everywhere:
        return held_bytes(session, caller.tenant, sha256)
    return session.scalar(select(FileRow.size_bytes).where(FileRow.sha256 == sha256).limit(1))
