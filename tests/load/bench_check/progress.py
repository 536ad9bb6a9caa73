"""The runs that an interrupted check has completed: one file for each run, in a folder named by the measured code."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

# Documentation does not change figures, and the check itself writes the stored figures.
_CODE = (":/", ":(exclude,top)docs", ":(exclude,top,glob)**/*.md")


@dataclass(frozen=True, slots=True)
class Taken:
    """The figures of one run; ``busy`` is the share of all processors that others used just before it."""

    figures: dict[str, float]
    busy: float


class Progress:
    """The runs that are kept in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def log(self, name: str, number: int) -> Path:
        """Return where the output of a run goes."""
        return self._folder / f"{name}.{number}.out"

    def find(self, name: str, number: int) -> Taken | None:
        """Return a run that was kept."""
        path = self._path(name, number)
        return Taken(**json.loads(path.read_text())) if path.exists() else None

    def keep(self, name: str, number: int, taken: Taken) -> None:
        """Keep a run until :meth:`forget`."""
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = self._path(name, number).with_suffix(".partial")
        partial.write_text(json.dumps({"figures": taken.figures, "busy": taken.busy}))
        os.replace(partial, self._path(name, number))

    def forget(self, name: str) -> None:
        """Forget all runs of a benchmark, with their output."""
        for path in self._folder.glob(f"{name}.*"):
            path.unlink()

    def _path(self, name: str, number: int) -> Path:
        return self._folder / f"{name}.{number}.json"


def code(checkout: Path) -> str:
    """Return what identifies a checkout's code: its commit, and a digest of what was changed since."""
    head = _git(checkout, "rev-parse", "--short", "HEAD").decode().strip()
    changes = _git(checkout, "diff", "HEAD", "--", *_CODE)
    for name in sorted(_git(checkout, "ls-files", "-z", "--others", "--exclude-standard", "--", *_CODE).split(b"\0")):
        path = checkout / os.fsdecode(name)
        if name and path.is_file():
            changes += name + b"\0" + path.read_bytes()
    return f"{head}+{hashlib.sha256(changes).hexdigest()[:8]}" if changes else head


def _git(checkout: Path, *arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=checkout, stdout=subprocess.PIPE, check=True).stdout
