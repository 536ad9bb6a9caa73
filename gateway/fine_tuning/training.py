"""What fine-tuning stands on: the trainer, the files of the tenant, and what model names mean.

Invariant: nothing here is kept by the gateway; every Protocol speaks for the caller whose request is being served.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from gateway.routing import Route

# The trainer's settings, by their names in its contract; nested like there.
Settings = Mapping[str, Any]


class State(StrEnum):
    """Where a job stands, as the trainer says it."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    REGISTERING = "registering"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class EventKind(StrEnum):
    """What kind of event."""

    STATE = "state"
    STEP = "step"
    CHECKPOINT = "checkpoint"
    MESSAGE = "message"
    EVALUATION = "evaluation"


@dataclass(frozen=True, slots=True)
class Order:
    """What the trainer is asked for.  ``dataset`` and ``validation_dataset`` are sha256:…, the latter may be empty."""

    model: str
    dataset: str
    validation_dataset: str = ""
    base: str = ""
    start_version: str = ""
    settings: Settings = field(default_factory=dict)
    alias: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """One job of the trainer's; times are Unix seconds, 0 for not yet."""

    job: str
    state: State
    model: str = ""
    dataset: str = ""
    validation_dataset: str = ""
    base: str = ""
    start_version: str = ""
    settings: Settings = field(default_factory=dict)
    alias: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    step: int = 0
    total_steps: int = 0
    trained_tokens: int = 0
    best_step: int = 0
    version: str = ""
    error_reason: str = ""
    error_message: str = ""
    create_time: float = 0.0
    end_time: float = 0.0
    estimated_end_time: float = 0.0
    waiting_reason: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a job, numbered from 1 without gap; ``evaluation`` holds values by name."""

    sequence: int
    kind: EventKind
    state: State
    create_time: float
    step: int = 0
    total_steps: int = 0
    loss: float = 0.0
    learning_rate: float = 0.0
    trained_tokens: int = 0
    message: str = ""
    evaluation: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Kept:
    """A checkpoint that the trainer keeps."""

    step: int
    create_time: float


class Trainer(Protocol):
    """The trainer's jobs of the caller's tenant.  Raises JOB_NOT_FOUND, PEER_UNAVAILABLE, and what each says."""

    async def create(self, order: Order) -> Job:
        """Queue a job.  Raises as the trainer's CreateJob."""

    async def completed(self, order: Order) -> Settings:
        """The order's settings with every default filled in; nothing is queued.  Raises as EstimateJob."""

    async def get(self, job: str) -> Job:
        """The job."""

    async def page(self, size: int, after: str) -> tuple[Sequence[Job], bool]:
        """At most ``size`` jobs, newest first, from behind the job ``after``, which may be empty; and whether there are more.

        A page may hold fewer than asked, and more be there.
        """

    async def cancel(self, job: str) -> Job:
        """Ask for its end.  Raises JOB_FINISHED."""

    async def pause(self, job: str) -> Job:
        """Ask it to stop.  Raises JOB_FINISHED."""

    async def resume(self, job: str) -> Job:
        """Queue it again.  Raises JOB_NOT_PAUSED."""

    async def label(self, job: str, labels: Mapping[str, str]) -> Job:
        """Write on it; an empty value takes a label away."""

    async def events(self, job: str, size: int, before: int) -> Sequence[Event]:
        """At most ``size`` events below sequence ``before`` (0: from the newest), newest first."""

    async def checkpoints(self, job: str) -> Sequence[Kept]:
        """Those that are kept, newest first."""

    async def publish(self, job: str, step: int, request_id: str) -> str:
        """Make a version of a checkpoint; a repeat returns the same.  Raises CHECKPOINT_NOT_FOUND, CHECKPOINT_UNFIT."""


class Datasets(Protocol):
    """The trainer's datasets of the caller's tenant."""

    async def has(self, digest: str) -> bool:
        """Whether it has these bytes (sha256:…), checked."""

    async def take(self, filename: str, size_bytes: int, sha256: str, content: AsyncIterator[bytes]) -> None:
        """Store and check bytes.  Raises DATASET_MALFORMED, DATASET_UNCHECKED, DATASET_TOO_LARGE, NOT_READY, DISK_FULL."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of the tenant's; ``sha256`` is hexadecimal, ``trainable`` whether its purpose is to be trained on."""

    file: str
    filename: str
    size_bytes: int
    sha256: str
    trainable: bool


class Files(Protocol):
    """Files of the caller's tenant.  Raises FILE_NOT_FOUND, PEER_UNAVAILABLE."""

    async def describe(self, file: str) -> StoredFile:
        """The file."""

    def read(self, file: str) -> AsyncIterator[bytes]:
        """Its bytes, piece by piece."""

    async def write_results(self, filename: str, content: bytes, request_id: str) -> str:
        """Store what a job measured, of that purpose; a repeat returns the same file's id."""


class Models(Protocol):
    """What names mean."""

    async def resolve(self, name: str, sticky_key: str = "") -> Route:
        """As ``gateway.routing.Registry``: one digest for one name.  Raises MODEL_NOT_FOUND, ALIAS_NOT_SERVING."""
