"""Follows a folder: a pass at first, and another one after each change.

Invariant: the operating system is asked for news before the first pass looks, so that no change falls in between; a
server that is away is waited for, and afterwards what it holds is looked up anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

from watchfiles import Change, awatch

from trivium_client import nouns
from trivium_client.folder_files import Selection
from trivium_client.folders import PASSING, FolderPasses

# A burst of changes is one pass: it ends after this long without any, or in any case after the second.
_QUIET_MILLISECONDS = 100
_LONGEST_MILLISECONDS = 1600
_FIRST_WAIT_SECONDS = 0.2
_LONGEST_WAIT_SECONDS = 5.0


async def follow(passes: FolderPasses, *, prune: bool) -> AsyncGenerator[nouns.FolderReport]:
    """What each pass came to, those that came to nothing left out; for ever.  Raises what a pass raises."""
    first = True
    while True:
        async with aclosing(_while_it_stands(passes, prune=prune)) as reports:
            async for report in reports:
                if first or not report.silent:
                    yield report
                first = first and bool(report.waits)


async def _while_it_stands(passes: FolderPasses, *, prune: bool) -> AsyncGenerator[nouns.FolderReport]:
    """Reports of every pass until the folder is another one than it was: of that the system was not asked for news."""
    folder = passes.place.folder.resolve()
    while not folder.is_dir():
        yield nouns.FolderReport(waits=f"the folder {passes.place.folder} is not there")
        await asyncio.sleep(_LONGEST_WAIT_SECONDS / 10)
    changes = awatch(
        folder,
        watch_filter=_Interesting(folder, passes.place.selection),
        debounce=_LONGEST_MILLISECONDS,
        step=_QUIET_MILLISECONDS,
    )
    watched = _identity(folder)
    news: asyncio.Task[Any] | None = None
    try:
        while _identity(folder) == watched:
            news = asyncio.ensure_future(anext(changes))
            # Once it has run to its first wait, the operating system reports from here on.
            await asyncio.sleep(0)
            async for report in _passed(passes, prune=prune):
                yield report
            if _identity(folder) == watched:
                await news
    finally:
        if news is not None:
            news.cancel()
            await asyncio.gather(news, return_exceptions=True)
        await changes.aclose()


def _identity(folder: Path) -> tuple[int, int] | None:
    """Which folder this is; None for none."""
    try:
        state = folder.stat()
    except FileNotFoundError:
        return None
    return state.st_dev, state.st_ino


async def _passed(passes: FolderPasses, *, prune: bool) -> AsyncIterator[nouns.FolderReport]:
    """A pass that succeeds in the end; before it, each new thing that it waits for."""
    wait_seconds = _FIRST_WAIT_SECONDS
    said = ""
    while passes.place.folder.is_dir():
        try:
            report = await passes.bring(prune=prune)
        except PASSING as error:
            passes.forget()
            if str(error) != said:
                said = str(error)
                yield nouns.FolderReport(waits=said)
            await asyncio.sleep(wait_seconds)
            wait_seconds = min(wait_seconds * 2, _LONGEST_WAIT_SECONDS)
        else:
            yield report
            return


class _Interesting:
    """Whether a change can matter: not inside of what is left out."""

    def __init__(self, folder: Path, selection: Selection) -> None:
        self._folder = folder
        self._selection = selection

    def __call__(self, change: Change, path: str) -> bool:
        changed = Path(path)
        if not changed.is_relative_to(self._folder):
            return True
        parts = changed.relative_to(self._folder).parts
        above = ["/".join(parts[:end]) for end in range(1, len(parts))]
        return all(self._selection.enters(folder) for folder in above)
