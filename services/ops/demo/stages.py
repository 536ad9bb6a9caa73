"""Shows where the demo is and how long each part of it takes.

On a terminal a bar moves; elsewhere (a file, a pipe) each stage is one line when it is done, and while it lasts it
says now and then how far it is: silence looks like a demo that hangs.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

_TELL_SECONDS = 15.0


class DemoError(Exception):
    """A stage that did not come to its end; the text says which and why."""


class Bar:
    """The progress of one stage."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task
        self._told = ""

    def at(self, done: float, total: float | None = None, note: str = "") -> None:
        """Say how far it is; `note` stands behind the bar."""
        self._progress.update(self._task, completed=done, total=total, note=note)
        count = f"{done:.0f} of {total:.0f}" if total else ""
        self._told = ", ".join(filter(None, (count, note)))

    @property
    def told(self) -> str:
        """The last word on how far it is, empty when nothing was said yet."""
        return self._told


class Stages:
    """The stages of one run of the demo, with their wall times."""

    def __init__(self, console: Console, tell_seconds: float = _TELL_SECONDS) -> None:
        self.console = console
        self._tell_seconds = tell_seconds
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
            bar = Bar(progress, progress.add_task(name, total=total, note=""))
            with self._telling(name, bar, begun):
                yield bar
        self.say(f"{name:<22} {time.monotonic() - begun:6.1f} s")

    @contextmanager
    def _telling(self, name: str, bar: Bar, begun: float) -> Iterator[None]:
        """Where no bar moves, print a line now and then; a thread does, for a stage may hold its own up."""
        if self.console.is_terminal:
            yield
            return
        done = threading.Event()

        def tell() -> None:
            while not done.wait(self._tell_seconds):
                where = f": {bar.told}" if bar.told else ""
                self.say(f"  {name}{where} ({time.monotonic() - begun:.0f} s so far)")

        teller = threading.Thread(target=tell, daemon=True)
        teller.start()
        try:
            yield
        finally:
            done.set()
            teller.join()

    def say(self, text: str) -> None:
        """Print a line as it is."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    @property
    def total_seconds(self) -> float:
        """Since the first stage could begin."""
        return time.monotonic() - self._begun
