"""The log file of each service: what it writes, kept under a size.

Invariant: only the supervisor writes to these files, so a rotation loses no line.
"""

import asyncio
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PIECE_BYTES = 64 * 1024


class LogFile:
    """An append-only file that becomes `NAME.1` when it is full; `kept` of those remain."""

    def __init__(self, path: Path, limit_bytes: int = 10 * 1024 * 1024, kept: int = 3) -> None:
        self.path = path
        self._limit_bytes = limit_bytes
        self._kept = kept

    def append(self, piece: bytes) -> None:
        """Write `piece`; rotates at a line's end once the limit is passed."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.write(piece)
            full = file.tell() >= self._limit_bytes
        if full and piece.endswith(b"\n"):
            self._rotate()

    def _rotate(self) -> None:
        for number in range(self._kept - 1, 0, -1):
            with suppress(FileNotFoundError):
                os.replace(self._numbered(number), self._numbered(number + 1))
        os.replace(self.path, self._numbered(1))

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")

    async def drink(self, stream: asyncio.StreamReader) -> None:
        """Append what `stream` carries until it ends."""
        while piece := await stream.read(_PIECE_BYTES):
            self.append(piece)


def tail(path: Path, lines: int) -> list[str]:
    """Return the last lines of a file; none when it is not there."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - lines * 500))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    return text.splitlines()[-lines:]


class Follower:
    """Reads what is added to a file, across rotations."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode = 0
        self._offset = 0
        with suppress(FileNotFoundError):
            state = path.stat()
            self._inode, self._offset = state.st_ino, state.st_size

    def fresh(self) -> Iterator[str]:
        """Yield the lines added since the last call."""
        try:
            state = self._path.stat()
        except FileNotFoundError:
            return
        if state.st_ino != self._inode or state.st_size < self._offset:
            self._inode, self._offset = state.st_ino, 0
        with self._path.open("rb") as file:
            file.seek(self._offset)
            added = file.read()
        whole = added.rpartition(b"\n")[0]
        if whole:
            self._offset += len(whole) + 1
            yield from whole.decode(errors="replace").splitlines()
