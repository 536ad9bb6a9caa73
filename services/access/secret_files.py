"""Files that only their owner reads: keys.

Invariant: at no moment does such a file exist with wider permissions, not even under
a temporary name.
"""

import os
import secrets
from pathlib import Path

from services.chassis.files import disk_full_named, publish

_OWNER_ONLY = 0o600


def write_secret(path: Path, content: bytes) -> None:
    """Write ``content`` durably, readable by the owner alone.  Raises DISK_FULL."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with disk_full_named(path):
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    publish(temporary, path)


def read_or_create(path: Path, size_bytes: int) -> bytes:
    """The random secret in ``path``, made on the first call."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        write_secret(path, secrets.token_bytes(size_bytes))
        return path.read_bytes()
