"""Files that only their owner reads: keys.

Invariant: at no moment does such a file exist with wider permissions, not even under
a temporary name.
"""

import secrets
from pathlib import Path

from services.chassis.files import write_atomically

_OWNER_ONLY = 0o600


def write_secret(path: Path, content: bytes) -> None:
    """Write ``content`` durably, readable by the owner alone.  Raises DISK_FULL."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomically(path, content, _OWNER_ONLY)


def read_or_create(path: Path, size_bytes: int) -> bytes:
    """The random secret in ``path``, made on the first call."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        write_secret(path, secrets.token_bytes(size_bytes))
        return path.read_bytes()
