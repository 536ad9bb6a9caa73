"""What a job's events say in OpenAI's shape: a sentence, how serious it is, and what was measured.

Invariant: one event of the trainer's is one here, and its id says which, so that a list goes on where it ended.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from gateway.fine_tuning.training import Event, EventKind, State
from services.chassis.errors import Failure, Reason

_PREFIX = "ftevent-"


class Level(StrEnum):
    """How serious an event is."""

    INFO = "info"
    WARN = "warn"
    ERROR = "error"


_LEVELS = {State.FAILED: Level.ERROR, State.CANCELLED: Level.WARN}
_STATES = {
    State.QUEUED: "The job waits for its turn",
    State.RUNNING: "The job trains",
    State.PAUSING: "The job will pause at its next step",
    State.PAUSED: "The job is paused",
    State.CANCELLING: "The job will end at its next step",
    State.REGISTERING: "The job is trained, and its version is being registered",
    State.SUCCEEDED: "The job has successfully completed",
    State.FAILED: "The job failed",
    State.CANCELLED: "The job was cancelled",
}


@dataclass(frozen=True, slots=True)
class Told:
    """One event as it is told; ``metrics`` are values by OpenAI's names, none where nothing was measured."""

    event: str
    level: Level
    message: str
    create_time: float
    metrics: Mapping[str, float] = field(default_factory=dict)


def told(job: str, event: Event) -> Told:
    """The event as it is told."""
    level = _LEVELS.get(event.state, Level.INFO) if event.kind is EventKind.STATE else Level.INFO
    return Told(f"{_PREFIX}{job}-{event.sequence}", level, _message(event), event.create_time, metrics(event))


def sequence_of(job: str, event: str) -> int:
    """The number of an event of this job by its id, 0 for no id.  Raises FIELD_INVALID for what is none of its ids."""
    if not event:
        return 0
    number = event.removeprefix(f"{_PREFIX}{job}-")
    if number == event or not (number.isascii() and number.isdecimal()) or not 0 < int(number) < 1 << 63:
        raise Failure(Reason.FIELD_INVALID, field="after", problem=f"{event!r} is no event of the job {job}")
    return int(number)


def metrics(event: Event) -> dict[str, float]:
    """What a step or an evaluation measured; a value that is no number is left out, since JSON has none."""
    if event.kind is EventKind.STEP:
        found = {"train_loss": event.loss, "learning_rate": event.learning_rate}
    elif event.kind is EventKind.EVALUATION:
        found = {f"valid_{name}": value for name, value in event.evaluation.items()}
    else:
        return {}
    return {"step": float(event.step)} | {name: value for name, value in found.items() if math.isfinite(value)}


def _message(event: Event) -> str:
    step = f"Step {event.step}/{event.total_steps}"
    if event.kind is EventKind.STEP:
        return f"{step}: training loss={event.loss:.4f}"
    if event.kind is EventKind.EVALUATION:
        values = ", ".join(f"validation {name}={value:.4f}" for name, value in sorted(event.evaluation.items()))
        return f"{step}: {values}"
    if event.kind is EventKind.CHECKPOINT:
        return f"Checkpoint created at step {event.step}"
    if event.kind is EventKind.STATE:
        said = _STATES[event.state]
        return f"{said}: {event.message}" if event.message else said
    return event.message
