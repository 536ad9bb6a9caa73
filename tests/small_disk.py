"""A disk of a few kilobytes or megabytes, for what is promised of one that is full."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """``folder``, made and on a disk of its own; ``size`` as mount takes it: 64k, 96m."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted ({mounted.stderr.strip()}); as root it can: sudo make test")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
