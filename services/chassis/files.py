"""Durable files: complete under their name or absent, and still there after a power cut.

Invariant: temporary file, fsync, rename, fsync of the folder, in this order.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.chassis.errors import Failure, Reason


def write_atomically(path: Path, content: bytes) -> None:
    """Replace ``path`` with ``content``, durably.  Raises DISK_FULL."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with disk_full_named(path), temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    publish(temporary, path)


def publish(temporary: Path, path: Path) -> None:
    """Give a finished, synced file or folder its name, durably."""
    os.replace(temporary, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Make every file below ``folder`` durable, then the folders."""
    for root, _, names in os.walk(folder, topdown=False):
        for name in names:
            with open(os.path.join(root, name), "rb") as file:
                os.fsync(file.fileno())
        sync_folder(Path(root))


@contextmanager
def disk_full_named(what: Path | str) -> Iterator[None]:
    """Turn "no space left" into the failure that says where."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Failure(Reason.DISK_FULL, what=Path(what).name) from error
        raise
