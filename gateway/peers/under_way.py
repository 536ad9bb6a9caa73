"""Places of answers under way in one mapped file: a token costs a number in memory, which the kernel keeps when we are killed.

Invariants: a place counts only whole, by its length and sum, which are written last; and only for the boot of the machine in
which it was written, since a machine that loses its power keeps some pages and not others.
"""

import fcntl
import mmap
import os
import secrets
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from google.protobuf.message import DecodeError
from trivium.access.v1 import access_pb2

from gateway.generation import Receipt
from gateway.peers.access import of_record, to_record
from gateway.receipts import Waiting, beside
from services.chassis.logs import Log

_BOOT = Path("/proc/sys/kernel/random/boot_id")
# Before the first place: what the file is, and when it was written.
_PAGE_BYTES = 4096
_TITLE = b"trivium answers under way, 1\n"
# A receipt without sources takes half a KB, with twenty of them three.
_PLACE_BYTES = 4096
PLACES = 1024
# Completion tokens; length and sum of the record behind it.
_HEAD = struct.Struct("<QII")
_TOKENS = struct.Struct("<Q")


def this_boot() -> str:
    """What no other run of this machine's kernel has; empty where the system does not tell."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""


class MappedPlace:
    """Implements :class:`gateway.under_way.Place`."""

    __slots__ = ("_at", "_free", "_mapped", "waiting")

    def __init__(self, mapped: mmap.mmap, at: int, free: list[int], waiting: Waiting) -> None:
        self._mapped = mapped
        self._at = at
        self._free = free
        self.waiting = waiting

    def heard(self, completion_tokens: int) -> None:
        """As the Protocol says."""
        if not self._mapped.closed:
            _TOKENS.pack_into(self._mapped, self._at, completion_tokens)

    def holds(self, receipt: Receipt) -> None:
        """As the Protocol says."""
        if not self._mapped.closed:
            self.waiting = replace(self.waiting, receipt=receipt)
            self.write()

    def leave(self) -> None:
        """As the Protocol says."""
        if not self._mapped.closed:
            _HEAD.pack_into(self._mapped, self._at, 0, 0, 0)
            self._free.append(self._at)

    def write(self) -> bool:
        """Put the record into the place; whether it has room for it, else the place is as good as free."""
        content = to_record(self.waiting).SerializeToString()
        _HEAD.pack_into(self._mapped, self._at, 0, 0, 0)
        if len(content) > _PLACE_BYTES - _HEAD.size:
            return False
        begin = self._at + _HEAD.size
        self._mapped[begin : begin + len(content)] = content
        tokens = self.waiting.receipt.usage.completion_tokens
        _HEAD.pack_into(self._mapped, self._at, tokens, len(content), zlib.crc32(content))
        return True


class MappedUnderWay:
    """Implements :class:`gateway.under_way.UnderWay` in a file.  ``boot`` says which run of the machine this is."""

    def __init__(
        self,
        path: Path,
        log: Log,
        boot: Callable[[], str] = this_boot,
        draw: Callable[[int], int] = secrets.randbelow,
    ) -> None:
        self._path = path
        self._log = log
        self._boot = boot
        self._draw = draw
        self._mapped: mmap.mmap | None = None
        self._free: list[int] = []

    @contextmanager
    def opened(self) -> Iterator[Sequence[MappedPlace]]:
        """As the Protocol says; where the file cannot be had no answer finds a place, and that is logged."""
        try:
            mapped = self._open()
        except OSError as error:
            # Another process has it, or the disk is full: answers are given all the same.
            self._log.warning("answers_under_way_not_kept", why=str(error))
            yield []
            return
        with mapped:
            self._free = []
            left = [place for at in _everywhere() if (place := self._found(mapped, at)) is not None]
            self._mapped = mapped
            try:
                yield left
            finally:
                self._mapped = None

    def enter(self, waiting: Waiting) -> MappedPlace | None:
        """As the Protocol says; the id is one that nobody asks, since the request's own may be asked again."""
        if self._mapped is None or not self._free:
            return None
        receipt = waiting.receipt
        marked = replace(receipt, request_id=beside(receipt.request_id, f"cancelled-{self._draw(10**12)}"))
        at = self._free.pop()
        place = MappedPlace(self._mapped, at, self._free, replace(waiting, receipt=marked))
        if place.write():
            return place
        self._free.append(at)
        return None

    def _open(self) -> mmap.mmap:
        """The file, emptied where it is of another boot or none of ours.  Raises OSError."""
        title = _TITLE + self._boot().encode()
        size_bytes = _PAGE_BYTES + PLACES * _PLACE_BYTES
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if title == _TITLE or os.pread(descriptor, _PAGE_BYTES, 0).rstrip(b"\0") != title:
                os.ftruncate(descriptor, 0)
            # Taken from the disk now: a page that finds no room when it is written would end the process.
            os.posix_fallocate(descriptor, 0, size_bytes)
            os.pwrite(descriptor, title, 0)
            # It has a descriptor of its own, which holds the lock.
            return mmap.mmap(descriptor, size_bytes)
        finally:
            os.close(descriptor)

    def _found(self, mapped: mmap.mmap, at: int) -> MappedPlace | None:
        """What an earlier process left in a place; None where that is nothing that can be read, and the place is free."""
        tokens, length, check = _HEAD.unpack_from(mapped, at)
        content = mapped[at + _HEAD.size : at + _HEAD.size + min(length, _PLACE_BYTES - _HEAD.size)]
        if length and zlib.crc32(content) == check:
            try:
                waiting = of_record(access_pb2.UsageRecord.FromString(content))
            except DecodeError as error:
                self._log.error("answer_under_way_unreadable", why=str(error))
            else:
                usage = replace(waiting.receipt.usage, completion_tokens=tokens)
                heard = replace(waiting, receipt=replace(waiting.receipt, usage=usage))
                return MappedPlace(mapped, at, self._free, heard)
        _HEAD.pack_into(mapped, at, 0, 0, 0)
        self._free.append(at)
        return None


def _everywhere() -> range:
    return range(_PAGE_BYTES, _PAGE_BYTES + PLACES * _PLACE_BYTES, _PLACE_BYTES)
