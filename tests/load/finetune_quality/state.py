"""What is done is kept: a folder in which a benchmark that was killed goes on.

Invariant: a result is complete under its name or absent; whatever is absent is done, or gone on with, at the next start.
"""

import json
from pathlib import Path
from typing import Any

from services.chassis.files import write_atomically


class State:
    """One set's results.  The constructor makes nothing; `open` does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self, fingerprint: str) -> None:
        """Make the folder, or go on in it.  Raises ValueError when other rows or settings began there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        begun = self.read("begun")
        if begun is not None and begun["fingerprint"] != fingerprint:
            raise ValueError(
                f"{self.folder} was begun with other rows or settings: name another folder with --state, or delete it"
            )
        self.write("begun", {"fingerprint": fingerprint})

    def read(self, name: str) -> Any:
        """A result, None while there is none."""
        try:
            return json.loads((self.folder / f"{name}.json").read_text())
        except FileNotFoundError:
            return None

    def write(self, name: str, result: object) -> None:
        """Keep a result, durably."""
        write_atomically(self.folder / f"{name}.json", json.dumps(result, ensure_ascii=False, indent=1).encode())
