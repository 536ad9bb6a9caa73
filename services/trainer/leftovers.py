"""What ended jobs leave on the disk goes: the result is in the registry, or will never be wanted.

Invariant: a folder goes only when its job has ended and no process of ours holds it.
"""

import asyncio
import os
import shutil
from collections.abc import Set
from pathlib import Path

from services.trainer.jobs import Jobs


async def clear(folder: Path, jobs: Jobs, needed: Set[str]) -> None:
    """Drop the folders of jobs that have ended; of those that are ``needed`` it is known that they have not.

    Whatever ended them (a cancellation while paused, a trainer that was killed) wakes the runner, or comes before a start.
    """
    # A folder is made only for a job that had not ended when it was planned.
    folders = await asyncio.to_thread(_names, folder)
    for name in await jobs.ended(folders - needed):
        await asyncio.to_thread(shutil.rmtree, folder / name, ignore_errors=True)


def _names(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except FileNotFoundError:
        return set()
