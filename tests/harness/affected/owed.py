"""Test files that a selection left out for the cap: owed to the next soak, whose report lists them until it has run."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from services.ops.cache import cache_dir


def record(root: Path, base: str, files: Iterable[str]) -> None:
    """Add files that were left out of a selection since ``base``."""
    owed = read(root) | dict.fromkeys(files, base)
    if owed:
        _write(root, owed)


def read(root: Path) -> dict[str, str]:
    """Return the files that are owed, with the base of the selection that left them out."""
    file = _file(root)
    return dict(json.loads(file.read_text())) if file.is_file() else {}


def settle(root: Path) -> None:
    """Forget them: a soak has run everything."""
    _file(root).unlink(missing_ok=True)


def _write(root: Path, owed: dict[str, str]) -> None:
    file = _file(root)
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps(owed, indent=1, sort_keys=True))
    temporary.replace(file)


def _file(root: Path) -> Path:
    """Return the file of one checkout."""
    checkout = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:12]
    return cache_dir() / "soak" / f"owed-{checkout}.json"
