"""What fine-tuning answers over HTTP, and what its lists are asked by: the models of the document."""

from typing import Any, Literal

from pydantic import Field

from gateway.http.parsing import Strict

MOST = 500


class Hyperparameters(Strict):
    """What is trained with."""

    n_epochs: int
    batch_size: int
    learning_rate_multiplier: float
    beta: float = 0.0


class Chosen(Strict):
    """A method's hyperparameters."""

    hyperparameters: Hyperparameters


class Method(Strict):
    """How the model is fine-tuned."""

    type: Literal["supervised", "dpo"]
    supervised: Chosen | None = None
    dpo: Chosen | None = None


class Why(Strict):
    """Why a job failed."""

    code: str
    message: str
    param: str | None


class TrainerShown(Strict):
    """What the trainer says of a job beside OpenAI's fields; ``settings`` are all of its own."""

    model: str
    alias: str | None
    settings: dict[str, Any]
    step: int
    total_steps: int
    waiting_reason: str | None


class JobShown(Strict):
    """A job."""

    id: str
    object: Literal["fine_tuning.job"]
    created_at: int
    finished_at: int | None
    estimated_finish: int | None
    model: str
    fine_tuned_model: str | None
    organization_id: str
    status: Literal["queued", "running", "paused", "succeeded", "failed", "cancelled"]
    training_file: str
    validation_file: str | None
    result_files: list[str]
    hyperparameters: Hyperparameters
    method: Method
    trained_tokens: int | None
    error: Why | None
    user_provided_suffix: str | None
    seed: int
    integrations: list[Any] = Field(max_length=0)
    metadata: dict[str, str]
    trivium: TrainerShown


class _Page(Strict):
    object: Literal["list"]
    first_id: str | None
    last_id: str | None
    has_more: bool


class JobsShown(_Page):
    """A page of jobs."""

    data: list[JobShown]


class EventShown(Strict):
    """An event; ``data`` is what was measured, empty where nothing was."""

    id: str
    object: Literal["fine_tuning.job.event"]
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, float]


class EventsShown(_Page):
    """A page of events."""

    data: list[EventShown]


class CheckpointShown(Strict):
    """A checkpoint."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"]
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    step_number: int
    metrics: dict[str, float]


class CheckpointsShown(_Page):
    """A page of checkpoints."""

    data: list[CheckpointShown]


class Nothing(Strict):
    """An empty object: the path says all."""


class PageQuery(Strict):
    """Where a list goes on, and how far."""

    after: str = ""
    limit: int = Field(20, ge=1, le=MOST)


class JobsQuery(PageQuery):
    """Which jobs: those with a value written on them under a key, or those with nothing written on them."""

    metadata: Literal["null"] | None = None
    entry: str = Field("", alias="metadata[KEY]")
