"""Datasets, jobs and how they train.  As `nouns`."""

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Dataset:
    """One immutable dataset; tokens are counted under the default base's chat template."""

    dataset: str
    digest: str
    filename: str
    format: str
    rows: int
    size_bytes: int
    tokens: int
    supervised_tokens: int
    max_row_tokens: int
    create_time: datetime | None


@dataclass(frozen=True, slots=True)
class DatasetProblem:
    """Something wrong with one line (from 1) of a dataset."""

    line: int
    field: str
    message: str
    fatal: bool


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """LoRA's own settings; None takes the server's default (rank 16, alpha twice the rank, all linear layers)."""

    rank: int | None = None
    alpha: float | None = None
    dropout: float | None = None
    target_modules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """Settings of a run; None takes the server's default.

    `method` is lora, rslora, dora, qlora or full; `objective` supervised, continued, dpo or
    kto; `schedule` linear, cosine or constant; empty means the default of each.
    """

    method: str = ""
    objective: str = ""
    schedule: str = ""
    lora: LoraSettings = field(default_factory=LoraSettings)
    epochs: int | None = None
    batch_rows: int | None = None
    learning_rate: float | None = None
    warmup_ratio: float | None = None
    weight_decay: float | None = None
    max_gradient_norm: float | None = None
    max_row_tokens: int | None = None
    seed: int | None = None
    checkpoint_steps: int | None = None
    max_steps: int | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One training job.

    `state` is queued, running, pausing, paused, cancelling, registering, succeeded, failed or
    cancelled; `version` names the result, `error` says why it failed.
    """

    job: str
    state: str
    model: str
    alias: str
    dataset: str
    dataset_digest: str
    base_digest: str
    settings: TrainingSettings
    step: int
    total_steps: int
    trained_tokens: int
    loss: float
    version: str
    error_reason: str
    error: str
    attempts: int
    create_time: datetime | None
    start_time: datetime | None
    end_time: datetime | None
    estimated_end_time: datetime | None

    @property
    def finished(self) -> bool:
        """Whether the job will not change any more."""
        return self.state in {"succeeded", "failed", "cancelled"}


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One event of a job: `kind` is state, step, checkpoint or message; a watch resumes after `sequence`."""

    sequence: int
    kind: str
    state: str
    step: int
    total_steps: int
    loss: float
    learning_rate: float
    gradient_norm: float
    trained_tokens: int
    message: str
    create_time: datetime | None
