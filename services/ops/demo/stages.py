"""Shows where the demo is and how long each part of it takes.

On a terminal a bar moves; elsewhere (a file, a pipe) each stage is one line when it is done.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class DemoError(Exception):
    """A stage that did not come to its end; the text says which and why."""


class Bar:
    """The progress of one stage."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def at(self, done: float, total: float | None = None, note: str = "") -> None:
        """Say how far it is; `note` stands behind the bar."""
        self._progress.update(self._task, completed=done, total=total, note=note)


class Stages:
    """The stages of one run of the demo, with their wall times."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._begun = time.monotonic()

    @contextmanager
    def stage(self, name: str, total: float | None = None) -> Iterator[Bar]:
        """Time a stage and show its bar."""
        begun = time.monotonic()
        columns = (
            TextColumn("{task.description:<22}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
        )
        with Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as progress:
            yield Bar(progress, progress.add_task(name, total=total, note=""))
        self.say(f"{name:<22} {time.monotonic() - begun:6.1f} s")

    def say(self, text: str) -> None:
        """Print a line as it is."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    @property
    def total_seconds(self) -> float:
        """Since the first stage could begin."""
        return time.monotonic() - self._begun
