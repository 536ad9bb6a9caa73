"""How far the registry's stream of changes was acted upon."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from services.chassis.files import write_atomically


class Cursor:
    """The last sequence number that was acted upon, durable."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> int:
        """The number, 0 at first or when the file is damaged.  Blocks."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            return int(json.loads(self._path.read_text("utf-8"))["sequence"])
        return 0

    def write(self, sequence: int) -> None:
        """Store the number.  Blocks."""
        write_atomically(self._path, json.dumps({"sequence": sequence}).encode())
