"""A pickle that shows whether anybody has executed it: it makes a file that no other run makes."""

from __future__ import annotations

import os
import tempfile
import uuid
from pathlib import Path

# One for each process that tests run in: lanes share the temporary folder.
_FILE = Path(tempfile.gettempdir()) / f"trivium-trap-{uuid.uuid4().hex}"


class Trap:
    """Pickled, it holds a command that makes the file."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        """Return what unpickling calls."""
        return os.system, (f"touch {_FILE}",)


def was_sprung() -> bool:
    """Return whether a pickled trap was executed since the last call; the next call tells of what happens after it."""
    found = _FILE.exists()
    _FILE.unlink(missing_ok=True)
    return found
