"""What a training job is: what was ordered, its states, and which may follow which.

Invariant: a job moves only along `MOVES`; a finished job never moves again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from services.trainer.settings import Settings


class State(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    REGISTERING = "registering"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        """Whether the job never moves again."""
        return self in (State.SUCCEEDED, State.FAILED, State.CANCELLED)

    @property
    def holds_child(self) -> bool:
        """Whether a training process belongs to the state."""
        return self in (State.RUNNING, State.PAUSING, State.CANCELLING)


_END = frozenset({State.FAILED, State.CANCELLED})
MOVES: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.RUNNING, State.PAUSED}) | _END,
    State.RUNNING: frozenset({State.PAUSING, State.PAUSED, State.CANCELLING, State.REGISTERING}) | _END,
    State.PAUSING: frozenset({State.PAUSED, State.CANCELLING, State.REGISTERING}) | _END,
    State.PAUSED: frozenset({State.QUEUED}) | _END,
    State.CANCELLING: _END,
    State.REGISTERING: frozenset({State.SUCCEEDED, State.FAILED}),
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELLED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class Order:
    """What a caller asks for: which data, into which model, how.

    ``base_version`` is the version that the base is, empty for one of the deployment's.
    """

    model: str
    dataset: str
    dataset_digest: str
    base: str
    base_digest: str
    settings: Settings
    alias: str
    base_version: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far training has come.  `loss` is of the last step; `best_step` of the best evaluation, 0 for none."""

    step: int = 0
    total_steps: int = 0
    trained_tokens: int = 0
    loss: float = 0.0
    best_step: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """One job of a tenant.  `crashes` counts processes lost since the last checkpoint."""

    tenant: str
    job: str
    principal: str
    order: Order
    state: State
    progress: Progress
    create_time: datetime
    queue_time: datetime
    start_time: datetime | None = None
    end_time: datetime | None = None
    version: str = ""
    error_reason: str = ""
    error_message: str = ""
    attempts: int = 0
    crashes: int = 0

    def estimated_end(self, now: datetime) -> datetime | None:
        """Return when training will end by the pace so far, or None when there is none to go by."""
        if self.state is not State.RUNNING or self.start_time is None or not self.progress.step:
            return None
        left = self.progress.total_steps - self.progress.step
        return now + (now - self.start_time) / self.progress.step * left


@dataclass(frozen=True, slots=True)
class Move:
    """A change of a job: its next state (or the same, to say something), and columns that change with it."""

    state: State
    message: str
    columns: Mapping[str, object] = field(default_factory=dict)


class EventKind(StrEnum):
    """What kind of event."""

    STATE = "state"
    STEP = "step"
    CHECKPOINT = "checkpoint"
    MESSAGE = "message"


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a job; `sequence` counts from 1 without gap and is 0 until stored."""

    kind: EventKind
    state: State
    progress: Progress
    create_time: datetime
    learning_rate: float = 0.0
    gradient_norm: float = 0.0
    message: str = ""
    sequence: int = 0
