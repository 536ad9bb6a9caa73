"""What ended jobs leave on the disk, and for how long.

Invariants: the folder of an unfinished job is never touched; of a job that succeeded nothing is left, its result is in
the registry; of one that failed or was cancelled the checkpoints are, for a while, in so many bytes in all, and only
as long as others have room.
"""

import asyncio
import os
import shutil
from collections.abc import Callable, Set
from dataclasses import dataclass
from pathlib import Path

from services.trainer import checkpoints
from services.trainer.checkpoints import MANIFEST
from services.trainer.job import State
from services.trainer.jobs import Jobs
from services.trainer.work import CHECKPOINTS

# Below it whoever trains would soon find the disk full, and pause.
_LEAST_FREE_BYTES = 1024**3


@dataclass(frozen=True, slots=True)
class Retention:
    """How long checkpoints stay after a job that failed or was cancelled has ended, and how many bytes of them in all."""

    seconds: float
    most_bytes: int


@dataclass(frozen=True, slots=True)
class _Left:
    """What an ended job left: until when it stays (Unix seconds), and its bytes."""

    until: float
    size_bytes: int


class Remains:
    """Clears the folder of the jobs."""

    def __init__(
        self,
        jobs: Jobs,
        folder: Path,
        retention: Retention,
        *,
        now: Callable[[], float],
        free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
    ) -> None:
        self._jobs = jobs
        self._folder = folder
        self.retention = retention
        self._now = now
        self._free_bytes = free_bytes
        # Of every folder that stays; read from the table and the disk once.
        self._left: dict[str, _Left] = {}

    async def clear(self, in_use: Set[str]) -> None:
        """Remove what nobody wants any more; ``in_use`` are unfinished jobs, and those that a process still holds.

        A folder is made only for a job that had not ended when it was planned, so what is not in use stays so.
        """
        found = await asyncio.to_thread(_names, self._folder) - in_use
        self._left = {name: left for name, left in self._left.items() if name in found}
        unknown = found - self._left.keys()
        ended = await self._jobs.ended(unknown) if unknown else {}
        await asyncio.to_thread(self._settle, ended)

    def _settle(self, ended: dict[str, tuple[State, float] | None]) -> None:
        for name, how in ended.items():
            size_bytes = 0
            if how is not None and how[0] in (State.FAILED, State.CANCELLED):
                size_bytes = _trimmed(self._folder / name)
            if how is not None and size_bytes:
                self._left[name] = _Left(how[1] + self.retention.seconds, size_bytes)
            else:
                shutil.rmtree(self._folder / name, ignore_errors=True)
        self._expire()

    def _expire(self) -> None:
        """Remove what has had its time, then the oldest for as long as there is too much of it, or too little room."""
        now, kept_bytes = self._now(), sum(left.size_bytes for left in self._left.values())
        for name, left in sorted(self._left.items(), key=lambda entry: entry[1].until):
            short = kept_bytes > self.retention.most_bytes or self._free_bytes(self._folder) < _LEAST_FREE_BYTES
            if left.until > now and not short:
                # Those behind it end later, and what makes them stay is the same.
                break
            shutil.rmtree(self._folder / name, ignore_errors=True)
            del self._left[name]
            kept_bytes -= left.size_bytes


def _trimmed(folder: Path) -> int:
    """Remove all but the checkpoints; return their bytes, 0 when there is none."""
    for name in _names(folder) - {CHECKPOINTS}:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    checkpoints.sweep(folder / CHECKPOINTS)
    # A worker may still be removing what it pushed out; `os.walk` passes over what is gone when it comes to it.
    kept = ((holding, files) for holding, _, files in os.walk(folder / CHECKPOINTS) if MANIFEST in files)
    return sum(_size_bytes(os.path.join(holding, name)) for holding, files in kept for name in files)


def _size_bytes(file: str) -> int:
    """0 where it is gone by now."""
    try:
        return os.path.getsize(file)
    except FileNotFoundError:
        return 0


def _names(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except FileNotFoundError:
        return set()
