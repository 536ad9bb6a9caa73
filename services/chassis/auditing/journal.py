"""Events on the disk until access has them: a file of this process's own, appended to and synced.

Invariants: an event that was appended outlives the process.  Room that was found stays ours, so that appending
never finds the disk full.  What is read back is whole: each event stands behind its length and checksum, and
reading ends at the first that does not match, which nobody was told of.

Appending to one file costs one sync of its content; a file for each batch (``chassis.files``), as receipts that wait
have it, would cost two and a new name, and here that is paid by every change and not only while access is away.
"""

import fcntl
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from services.chassis.files import disk_full_named, publish

# Length and CRC-32 of the event behind it.
_HEAD = struct.Struct(">II")
_ROOM_BYTES = 1024 * 1024
# An event with its head.
MAX_EVENT_BYTES = 6 * 1024
_WHAT = "the audit journal, so nothing was changed"


class Journal:
    """The file of this process.  Blocks; one thread at a time.

    The file is locked for as long as the process lives, so that no other takes it for one that was left.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.end = 0
        # The place up to which access has everything.
        self.told = 0
        self._allocated = 0
        self._descriptor = -1

    @property
    def room(self) -> int:
        """Bytes that can be appended and are ours already."""
        return self._allocated - self.end

    def find_room(self, size_bytes: int) -> None:
        """Have at least so much room.  Raises DISK_FULL."""
        if self.room >= size_bytes:
            return
        with disk_full_named(_WHAT):
            if self._descriptor < 0:
                self._descriptor = self._made()
                self._allocated = _ROOM_BYTES
            more = self.end + size_bytes - self._allocated
            if more > 0:
                more = -(-more // _ROOM_BYTES) * _ROOM_BYTES
                # Of what is ours already nothing is asked again: a file system that fails may take that away as well.
                os.posix_fallocate(self._descriptor, self._allocated, more)
                os.fsync(self._descriptor)
                self._allocated += more

    def _made(self) -> int:
        """The file under its name, locked before anybody else can see it; its descriptor."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # One that is left by a death in this moment holds nothing.
        temporary = self.path.with_suffix(".tmp")
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            # With the room of the first events: where there is none, no file is left either.
            os.posix_fallocate(descriptor, 0, _ROOM_BYTES)
            publish(temporary, self.path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            os.close(descriptor)
            raise
        return descriptor

    def append(self, events: Sequence[bytes]) -> None:
        """Durable when this returns.  There must be room.  Raises OSError, and then nothing was appended."""
        content = b"".join(map(_framed, events))
        written = 0
        while written < len(content):
            written += os.pwrite(self._descriptor, content[written:], self.end + written)
        os.fdatasync(self._descriptor)
        self.end += len(content)

    def untold(self, most: int) -> tuple[list[bytes], int]:
        """Up to ``most`` events that access has not, oldest first, and the place behind them."""
        events, place = [], self.told
        content = os.pread(self._descriptor, min(self.end - place, most * MAX_EVENT_BYTES), place)
        for event in frames(content):
            events.append(event)
            place += _HEAD.size + len(event)
            if len(events) == most:
                break
        return events, place

    def begin_again(self) -> None:
        """Write over what is there if all of it was told; what of it is found after a death is told again."""
        if self.told == self.end:
            self.told = self.end = 0

    def close(self) -> None:
        """Give the file up: to the next process, or to nobody where all of it was told."""
        if self._descriptor < 0:
            return
        if self.told == self.end:
            self.path.unlink(missing_ok=True)
        os.close(self._descriptor)
        self._descriptor, self._allocated, self.end, self.told = -1, 0, 0, 0


def _framed(event: bytes) -> bytes:
    return _HEAD.pack(len(event), zlib.crc32(event)) + event


def frames(content: bytes) -> Iterator[bytes]:
    """The whole events at the beginning of a file's content."""
    place = 0
    while place + _HEAD.size <= len(content):
        length, checksum = _HEAD.unpack_from(content, place)
        event = content[place + _HEAD.size : place + _HEAD.size + length]
        # A length of nothing is room that was never written.
        if not length or len(event) != length or zlib.crc32(event) != checksum:
            return
        yield event
        place += _HEAD.size + length


class LeftBehind:
    """A file of a process that is gone, locked while it is told; :meth:`close` gives it back."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    @classmethod
    def taken(cls, path: Path) -> "LeftBehind | None":
        """The file, or None where its process lives or another process was faster."""
        try:
            descriptor = os.open(path, os.O_RDWR)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        return cls(path, descriptor)

    def events(self) -> list[bytes]:
        """What it holds.  Blocks."""
        return list(frames(os.pread(self._descriptor, os.fstat(self._descriptor).st_size, 0)))

    def close(self, *, remove: bool) -> None:
        """Let it go, and out of the folder when all of it was told."""
        if remove:
            self._path.unlink(missing_ok=True)
        os.close(self._descriptor)
