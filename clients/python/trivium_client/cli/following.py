"""Follows a job to its end: a live picture on a terminal, lines elsewhere, events as JSON for programs.

Invariant: each event is shown once, however often the trainer restarts meanwhile; nothing but JSON goes to standard
output when that is wanted.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Protocol

import typer
from rich.console import Console
from rich.live import Live

from trivium_client import Trivium, TriviumError
from trivium_client.cli.printing import as_json
from trivium_client.cli.training_view import View, clock, measured, waiting
from trivium_client.nouns import Job, JobEvent

# More frames a second nobody sees.
_BETWEEN_FRAMES_SECONDS = 0.2
# A log gets a line of progress this often.
_BETWEEN_LINES_SECONDS = 15.0
# And of what was before it began not more than so many in all: a job may have trained for days.
_LINES_OF_THE_PAST = 20


class _Shown(Protocol):
    def told(self, event: JobEvent) -> None: ...

    def found(self, job: Job) -> None: ...

    def lost(self, why: TriviumError) -> None: ...


def follow(client: Trivium, job: str, write: Callable[[JobEvent], None] | None = None) -> Job:
    """Show a job's events until it ends, and return it; `write` hears them instead of people."""
    turn = threading.Lock()
    with _for_programs(write) if write else _for_people(turn) as inner:
        shown = _InTurn(inner, turn)
        for event in client.jobs.watch(job, lost=shown.lost, stands=shown.found):
            shown.told(event)
    return client.jobs.get(job)


@contextmanager
def goes_on(what: str, watch: str) -> Iterator[None]:
    """Whoever interrupts what is done inside is told that `what` goes on, and the command line to `watch` it with."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"The {what} goes on. To follow it: {watch}", err=True)
        raise


def write_json(event: Any) -> None:
    """Print an event as JSON on one line."""
    typer.echo(as_json(event))


@contextmanager
def _for_people(turn: threading.Lock) -> Iterator[_Shown]:
    console = Console(stderr=True, highlight=False)
    if not sys.stderr.isatty():
        yield _Lines(console)
        return
    with Live(console=console, auto_refresh=False) as live:
        picture = _Picture(live, turn)
        try:
            yield picture
        finally:
            picture.close()


@contextmanager
def _for_programs(write: Callable[[JobEvent], None]) -> Iterator[_Shown]:
    yield _Programs(write)


class _InTurn:
    """One word at a time: events come from the thread that reads them, everything else from the client's own."""

    def __init__(self, shown: _Shown, turn: threading.Lock) -> None:
        self._shown, self._turn = shown, turn

    def told(self, event: JobEvent) -> None:
        with self._turn:
            self._shown.told(event)

    def found(self, job: Job) -> None:
        with self._turn:
            self._shown.found(job)

    def lost(self, why: TriviumError) -> None:
        with self._turn:
            self._shown.lost(why)


class _Programs:
    """Events alone."""

    def __init__(self, write: Callable[[JobEvent], None]) -> None:
        self._write = write

    def told(self, event: JobEvent) -> None:
        self._write(event)

    def found(self, job: Job) -> None:
        """Nothing: it is no event."""

    def lost(self, why: TriviumError) -> None:
        """Nothing: the watch goes on."""


class _Picture:
    """The live view; sentences of the trainer's stand above it and stay.

    Its caller holds `turn` in `told`, `found` and `lost`; the thread that draws a delayed frame takes it.
    """

    def __init__(self, live: Live, turn: threading.Lock) -> None:
        self._live, self._turn, self._view = live, turn, View()
        self._drawn_at = 0.0
        self._delayed: threading.Timer | None = None
        self._said = ""

    def told(self, event: JobEvent) -> None:
        self._view.told(event)
        # What was asked for and what came of it are told in the same words.
        if event.message not in ("", self._said) and event.kind != "checkpoint":
            self._said = event.message
            _say(self._live.console, event.message)
        self._draw_in_time()

    def found(self, job: Job) -> None:
        self._view.found(job)
        self._draw_in_time()

    def lost(self, why: TriviumError) -> None:
        self._view.lost(why.message)
        self._draw()

    def close(self) -> None:
        """Draw the last frame; no thread draws another."""
        with self._turn:
            if self._delayed:
                self._delayed.cancel()
                self._delayed = None
            self._draw()

    def _draw_in_time(self) -> None:
        """Draw now, or as soon as a frame is due: nothing else may come for seconds that would draw this."""
        due = self._drawn_at + _BETWEEN_FRAMES_SECONDS - time.monotonic()
        if due <= 0:
            self._draw()
        elif self._delayed is None:
            self._delayed = threading.Timer(due, self._draw_delayed)
            self._delayed.daemon = True
            self._delayed.start()

    def _draw_delayed(self) -> None:
        with self._turn:
            # `close` may have come first.
            if self._delayed:
                self._delayed = None
                self._draw()

    def _draw(self) -> None:
        width, height = self._live.console.size
        self._live.update(self._view.frame(columns=width, rows=height), refresh=True)
        self._drawn_at = time.monotonic()


class _Lines:
    """A log: what the trainer says, evaluations, why it waits when that changes, and now and then how far it is.

    By the time of the events, so that what was before the watch began is told as what comes is, only in fewer lines.
    """

    def __init__(self, console: Console) -> None:
        self._console, self._view = console, View()
        self._waited = self._said = ""
        self._began = datetime.now(UTC)
        self._said_at: datetime | None = None
        self._said_step = 0
        self._unsaid: JobEvent | None = None

    def told(self, event: JobEvent) -> None:
        self._view.told(event)
        at = event.create_time or datetime.now(UTC)
        self._said_at = self._said_at or at
        if event.kind == "evaluation":
            _say(self._console, f"evaluation at step {event.step}: {measured(dict(event.evaluation))}")
        elif event.kind == "step":
            self._unsaid = event
            if self._due(event, at):
                self._say_how_far(event, at)
        elif event.kind == "state" and self._unsaid is not None:
            # How far it was when that happened.
            self._say_how_far(self._unsaid, at)
        if event.message not in ("", self._said):
            self._said = event.message
            _say(self._console, event.message)

    def _due(self, event: JobEvent, at: datetime) -> bool:
        assert self._said_at is not None, "an event was told"
        many = at >= self._began or event.step - self._said_step >= event.total_steps / _LINES_OF_THE_PAST
        return many and (at - self._said_at).total_seconds() >= _BETWEEN_LINES_SECONDS

    def _say_how_far(self, event: JobEvent, at: datetime) -> None:
        self._said_at, self._said_step, self._unsaid = at, event.step, None
        left = self._view.left(at)
        ends = f", {clock(left)} left" if left else ""
        _say(self._console, f"step {event.step} of {event.total_steps}, loss {event.loss:.4g}{ends}")

    def found(self, job: Job) -> None:
        why, sentence = str(job.waiting_reason or job.queue_position), waiting(job, datetime.now(UTC))
        if sentence and why != self._waited:
            self._waited = why
            _say(self._console, sentence)

    def lost(self, why: TriviumError) -> None:
        _say(self._console, f"The trainer does not answer; the job is safe, and this goes on. {why.message}")


def _say(console: Console, sentence: str) -> None:
    # Never folded: it may name a version, for somebody to copy.
    console.print(sentence, markup=False, highlight=False, soft_wrap=True)
