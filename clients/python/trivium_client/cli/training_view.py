"""What a terminal shows of a job that is followed: its curve, its numbers, and why it waits while it does.

Invariant: the view holds nothing that the job's events and its own record do not say; the same events give the same
lines, however often some of them come.
"""

from collections import deque
from datetime import UTC, datetime, timedelta

from rich.console import Group
from rich.text import Text

from trivium_client.cli.braille import Curves, chart, smoothed, spark
from trivium_client.nouns import Job, JobEvent

# Of so many steps the pace is taken.
_PACE_STEPS = 20
# The smoothed curve is a mean over this part of all steps, so that it is as calm in long runs as in short ones.
_SPANS = 30
_LEAST_SPAN_STEPS = 5
_CHART_ROWS = 12
_LEAST_CHART_ROWS = 4
# Lines beside the chart, and one that the cursor stands on.
_OTHER_ROWS = 9
_GIB, _MIB, _KIB = 1 << 30, 1 << 20, 1 << 10
_STATES = {"running": "training", "registering": "registering its version"}
# Jobs that share one process, whose memory is that of all of them.
_JOINT_METHODS = {"lora", "rslora"}
# How a sentence begins that says why no steps are done.
_HELD_UP = {"queued": "It waits", "paused": "It waits", "registering": "It waits", "running": "No step for a while"}


class View:
    """A job as its events tell it; `told` and `found` learn, `frame` draws."""

    def __init__(self) -> None:
        self._losses: dict[int, float] = {}
        self._rates: dict[int, float] = {}
        self._norms: dict[int, float] = {}
        self._evaluations: dict[int, dict[str, float]] = {}
        self._pace: deque[tuple[datetime, int]] = deque(maxlen=_PACE_STEPS)
        self._job: Job | None = None
        self._last: JobEvent | None = None
        self._memory_bytes = 0
        self._lost = ""

    def told(self, event: JobEvent) -> None:
        """Learn an event."""
        self._lost = ""
        if self._last is not None and self._last.state != event.state:
            self._pace.clear()
        self._last = event
        if event.kind == "step":
            self._losses[event.step] = event.loss
            self._rates[event.step] = event.learning_rate
            self._norms[event.step] = event.gradient_norm
            self._memory_bytes = event.memory_bytes or self._memory_bytes
            if event.create_time is not None:
                self._pace.append((event.create_time, event.step))
        elif event.kind == "evaluation":
            self._evaluations[event.step] = dict(event.evaluation)

    def found(self, job: Job) -> None:
        """Learn how the job stands while nothing happens to it."""
        self._lost = ""
        self._job = job

    def lost(self, why: str) -> None:
        """Learn that nobody answers at the moment."""
        self._lost = why

    def left(self, now: datetime) -> timedelta | None:
        """How long it will train yet, by the pace of the last steps; None while nobody knows."""
        if self._last is None or self._last.state != "running":
            return None
        if len(self._pace) < 2 or self._pace[-1][1] <= self._pace[0][1]:
            return None
        (begun, first), (lately, last) = self._pace[0], self._pace[-1]
        ends = lately + (lately - begun) / (last - first) * (self._last.total_steps - last)
        return max(ends - now, timedelta())

    def frame(self, *, columns: int, rows: int, now: datetime | None = None) -> Group:
        """The picture, at most `columns` cells wide and `rows` high."""
        moment = now or datetime.now(UTC)
        lines = [self._heading(moment)]
        if waiting := self._waiting(moment):
            lines.append(Text(waiting, style="yellow"))
        if self._losses:
            lines += self._curve(columns, min(max(rows - _OTHER_ROWS, _LEAST_CHART_ROWS), _CHART_ROWS))
            lines += [self._loss(), *self._evaluation(), *self._sparks(columns), self._work()]
        if self._lost:
            lines.append(
                Text(f"The trainer does not answer; the job is safe, and this goes on. {self._lost}", "yellow")
            )
        for line in lines:
            line.no_wrap, line.overflow = True, "ellipsis"
        return Group(*lines)

    def _heading(self, now: datetime) -> Text:
        if self._last is None:
            return Text("asking the trainer")
        state = self._last.state
        parts = [_STATES.get(state, state)]
        if self._last.total_steps:
            parts.append(f"step {self._last.step:,} of {self._last.total_steps:,}")
        if (left := self.left(now)) is not None:
            parts.append(f"{clock(left)} left")
        return Text(", ".join(parts), style="bold")

    def _waiting(self, now: datetime) -> str:
        if self._job is None or self._last is None or self._last.state != self._job.state:
            return ""
        # What was found before the last step does not hold any more.
        stepped = self._job.state == "running" and self._job.step < self._last.step
        return "" if stepped else waiting(self._job, now)

    def _curve(self, columns: int, rows: int) -> list[Text]:
        assert self._last is not None, "a step was told"
        last_step = max(self._last.total_steps, *self._losses)
        curves = Curves(
            raw=[(step, self._losses[step]) for step in sorted(self._losses)],
            smoothed=smoothed(self._losses, _span(last_step)),
            marked=[(step, values["loss"]) for step, values in self._evaluations.items() if "loss" in values],
        )
        return chart(curves, last_step=last_step, columns=columns, rows=rows)

    def _loss(self) -> Text:
        last_step = max(self._losses)
        parts = [f"loss {self._losses[last_step]:.4g}"]
        if line := smoothed(self._losses, _span(max(last_step, self._total()))):
            parts.append(f"smoothed {line[-1][1]:.4g}")
        return Text(", ".join(parts))

    def _evaluation(self) -> list[Text]:
        if not self._evaluations:
            return []
        step = max(self._evaluations)
        return [Text(f"◆ evaluation at step {step:,}: {measured(self._evaluations[step])}")]

    def _total(self) -> int:
        return self._last.total_steps if self._last else 0

    def _sparks(self, columns: int) -> list[Text]:
        width = max(min(columns - 30, 40), 4)
        return [
            Text(f"{name:<15}{spark([values[step] for step in sorted(values)], width)} {values[max(values)]:.3g}")
            for name, values in (("learning rate", self._rates), ("gradient norm", self._norms))
        ]

    def _work(self) -> Text:
        assert self._last is not None, "a step was told"
        parts = [f"{self._last.trained_tokens:,} tokens"]
        if speed := self._last.tokens_per_second or (self._job.tokens_per_second if self._job else 0):
            parts.append(f"{speed:,.0f} a second")
        if memory := self._memory():
            parts.append(memory)
        return Text(", ".join(parts))

    def _memory(self) -> str:
        """What was measured of its process, else what is set aside for it; the two are told apart."""
        if self._memory_bytes:
            joint = self._job is not None and self._job.settings.method in _JOINT_METHODS
            return f"{size(self._memory_bytes)} in {'a process it shares' if joint else 'its process'}"
        return f"{size(self._job.memory_bytes)} set aside" if self._job and self._job.memory_bytes else ""


def _span(steps: int) -> int:
    return max(steps // _SPANS, _LEAST_SPAN_STEPS)


def waiting(job: Job, now: datetime) -> str:
    """Why a job does not train at the moment, as a sentence; empty where it does, or nothing is known of it."""
    opening = _HELD_UP.get(job.state, "")
    parts = [f"place {job.queue_position} in the queue"] if job.queue_position else []
    if job.waiting_reason:
        parts.append(job.waiting_reason.rstrip("."))
    if job.estimated_start_time is not None:
        parts.append(f"begins in about {clock(max(job.estimated_start_time - now, timedelta()))}")
    return f"{opening}: {'; '.join(parts)}." if opening and parts else ""


def measured(values: dict[str, float]) -> str:
    """The values of an evaluation, the loss first."""
    names = sorted(values, key=lambda name: (name != "loss", name))
    return ", ".join(f"{name} {values[name]:.4g}" for name in names)


def clock(span: timedelta) -> str:
    """A span as hours, minutes and seconds: 0:45, 12:00, 1:02:03."""
    minutes, seconds = divmod(round(span.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def size(length_bytes: int) -> str:
    """A length in the unit that suits it."""
    if length_bytes < _MIB:
        return f"{length_bytes / _KIB:.0f} KiB"
    return f"{length_bytes / _GIB:.1f} GiB" if length_bytes >= _GIB else f"{length_bytes / _MIB:.0f} MiB"
