"""One process at a time over a folder whose files two would spoil for one another.

Invariant: the folder is free again as soon as its process has ended, in whatever way: the kernel holds the lock.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.chassis.errors import Unstartable

_LOCK = "process.lock"


@contextmanager
def sole_process(folder: Path, service: str) -> Iterator[None]:
    """Inside the block no other process works over `folder`.  Raises Unstartable, naming the process that does."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace") or "unknown"
            raise Unstartable(
                f"another {service} (process {holder}) works over {folder}; end it, or give this one a folder of its own "
                "with TRIVIUM_DATA_DIR"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)
