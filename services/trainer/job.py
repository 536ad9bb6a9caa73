"""What a training job is: what was ordered, its states, and which may follow which.

Invariant: a job moves only along `MOVES`; a finished job never moves again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from services.trainer.scheduling.state import Priority
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
    def keeps_checkpoints(self) -> bool:
        """Whether its checkpoints are anybody's: of a job that succeeded they go as soon as its trainer comes to it."""
        return self is not State.SUCCEEDED

    @property
    def holds_child(self) -> bool:
        """Whether a training process belongs to the state."""
        return self in (State.RUNNING, State.PAUSING, State.CANCELLING)


_END = frozenset({State.FAILED, State.CANCELLED})
MOVES: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.RUNNING, State.PAUSED}) | _END,
    # Queued again: it gave way to another at a step boundary, after a checkpoint.
    State.RUNNING: frozenset({State.QUEUED, State.PAUSING, State.PAUSED, State.CANCELLING, State.REGISTERING}) | _END,
    State.PAUSING: frozenset({State.PAUSED, State.CANCELLING, State.REGISTERING}) | _END,
    # To the registry: the best member of a sweep, which waited with its result for the others.
    State.PAUSED: frozenset({State.QUEUED, State.REGISTERING}) | _END,
    State.CANCELLING: _END,
    # Queued again: its result was lost with the trainer that had it.
    State.REGISTERING: frozenset({State.QUEUED, State.SUCCEEDED, State.FAILED}),
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELLED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class Order:
    """What a caller asks for: which data, into which model, how, and how soon.

    ``base_version`` is the version that the base is, empty for one of the deployment's; ``base_uri`` where the base came
    from, empty where that is not known; ``start_version`` the adapter that training starts from, empty for a new one.
    ``deadline`` is in Unix seconds, 0 for none; ``depends_on`` are jobs that must succeed first.  ``job_bytes`` and
    ``base_bytes`` are what it takes in memory, by `needs`, and ``row_bytes`` those of the job's that its rows are;
    ``step_tokens`` are those of a step, in the mean, as far as the dataset tells.  ``labels`` are what callers wrote on it,
    by name in ascending order: nothing is done by them, and they alone may change.
    """

    model: str
    dataset: str
    dataset_digest: str
    base: str
    base_digest: str
    settings: Settings
    alias: str
    base_version: str = ""
    base_uri: str = ""
    validation_dataset: str = ""
    validation_dataset_digest: str = ""
    start_version: str = ""
    priority: Priority = Priority.NORMAL
    deadline: float = 0.0
    depends_on: tuple[str, ...] = ()
    processes: int = 1
    sweep: str = ""
    recipe: str = ""
    warnings: tuple[str, ...] = ()
    job_bytes: int = 0
    base_bytes: int = 0
    row_bytes: int = 0
    # Of each of its processes: settled with the order, since the bits of the result depend on it; 0 in earlier releases.
    threads: int = 0
    step_tokens: float = 0.0
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Progress:
    """How far training has come.  `loss` is of the last step; `best_step` of the best evaluation, 0 for none."""

    step: int = 0
    total_steps: int = 0
    trained_tokens: int = 0
    loss: float = 0.0
    best_step: int = 0


@dataclass(frozen=True, slots=True)
class Measures:
    """What a job's processes reported last.

    ``evaluation`` holds values by name; ``charged_seconds`` are the seconds of machine that were its share so far;
    ``stepped_at`` is when it did its last step (Unix seconds, 0 for never).
    ``recorded`` is the last step of which there is an event, by kind: a job that goes on from a checkpoint does some
    steps again, and none is told twice.
    """

    learning_rate: float = 0.0
    gradient_norm: float = 0.0
    tokens_per_second: float = 0.0
    memory_bytes: int = 0
    charged_seconds: float = 0.0
    stepped_at: float = 0.0
    evaluation: Mapping[str, float] = field(default_factory=dict)
    recorded: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Lease:
    """Who may train a job and write for it: ``owner`` until ``expires_at`` (Unix seconds), on ``nodes`` since ``since``.

    The epoch grows with every lease; what comes under an earlier one counts no more.
    """

    owner: str = ""
    epoch: int = 0
    expires_at: float = 0.0
    nodes: tuple[str, ...] = ()
    since: float = 0.0

    def held(self, now: float) -> bool:
        """Whether somebody has it."""
        return bool(self.owner) and self.expires_at > now


@dataclass(frozen=True, slots=True)
class Job:
    """One job of a tenant.

    `crashes` counts processes lost since the last checkpoint.  `result_seen_at` is when, while its version is being
    registered, a trainer last said that it has the result (Unix seconds, 0 for never).
    """

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
    lease: Lease = field(default_factory=Lease)
    measures: Measures = field(default_factory=Measures)
    result_seen_at: float = 0.0

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
    EVALUATION = "evaluation"


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
    tokens_per_second: float = 0.0
    memory_bytes: int = 0
    evaluation: Mapping[str, float] = field(default_factory=dict)
