"""Durable files: complete under their name or absent, and still there after a power cut.

Invariant: temporary file, fsync, rename, fsync of the folder, in this order.
"""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.chassis.errors import Failure, Reason
from services.chassis.steps import Step, passed

# What stays free for databases and their journals, which must never find the disk full first.
RESERVE_BYTES = 64 * 1024 * 1024


def require_space(folder: Path, size_bytes: int, what: str) -> None:
    """Refuse at once what does not fit beside the reserve, instead of filling the disk for everybody.

    Makes the folder.  Raises DISK_FULL, which says that the disk holds ``what``.
    """
    with disk_full_named(what):
        folder.mkdir(parents=True, exist_ok=True)
    if max(size_bytes, 0) + RESERVE_BYTES > shutil.disk_usage(folder).free:
        raise Failure(Reason.DISK_FULL, what=what)
    passed(Step.SPACE_FOUND)


def write_atomically(path: Path, content: bytes, mode: int = 0o666) -> None:
    """Replace ``path`` with ``content``, durably.  Raises DISK_FULL.

    ``mode``, which the umask narrows, holds from the first moment on, under the temporary name too.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with (
            disk_full_named(path),
            open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file,
        ):
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
