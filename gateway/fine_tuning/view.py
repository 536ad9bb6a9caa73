"""A job of the trainer as OpenAI's shape tells it.

Invariant: what is told comes of the job alone, by its state, settings and labels; a job that was ordered elsewhere is told
like any other, with what it has instead of files.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gateway.fine_tuning import labels
from gateway.fine_tuning.order import OBJECTIVES, Hyperparameters, Method
from gateway.fine_tuning.training import Job, Settings, State

_METHODS = {objective: method for method, objective in OBJECTIVES.items()}
# Of those who look for the field that an order failed by.
_FIELDS = {"DATASET_MALFORMED": "training_file", "DATASET_NOT_FOUND": "training_file", "SETTINGS_UNFIT": "settings"}


class Status(StrEnum):
    """Where a job stands, in OpenAI's words."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


_STATUSES = {
    State.QUEUED: Status.QUEUED,
    State.RUNNING: Status.RUNNING,
    # Whoever waits for a pause wants to know when the job can be resumed.
    State.PAUSING: Status.RUNNING,
    State.PAUSED: Status.PAUSED,
    # Nothing leads from there but to its end.
    State.CANCELLING: Status.CANCELLED,
    State.REGISTERING: Status.RUNNING,
    State.SUCCEEDED: Status.SUCCEEDED,
    State.FAILED: Status.FAILED,
    State.CANCELLED: Status.CANCELLED,
}


@dataclass(frozen=True, slots=True)
class Error:
    """Why a job failed: the catalogue's reason, a sentence, and the field of the order, which may be empty."""

    reason: str
    message: str
    field: str = ""


@dataclass(frozen=True, slots=True)
class TuningJob:
    """One job.  ``of`` is the trainer's; times are in it."""

    of: Job
    tenant: str
    status: Status
    method: Method
    hyperparameters: Hyperparameters
    seed: int
    metadata: Mapping[str, str]
    fine_tuned_model: str = ""
    result_files: tuple[str, ...] = ()
    error: Error | None = None

    @property
    def model(self) -> str:
        """What it began from."""
        return self.of.labels.get(labels.MODEL) or self.of.start_version or _base(self.of.base)

    @property
    def suffix(self) -> str:
        """The suffix as it was asked for; empty for none."""
        return self.of.labels.get(labels.SUFFIX, "")

    @property
    def training_file(self) -> str:
        """What it learns from: a file, or the dataset of a job that was ordered at the trainer."""
        return self.of.labels.get(labels.TRAINING_FILE) or self.of.dataset

    @property
    def validation_file(self) -> str:
        """What it is evaluated on, likewise; empty for nothing."""
        return self.of.labels.get(labels.VALIDATION_FILE) or self.of.validation_dataset


def told(job: Job, tenant: str) -> TuningJob:
    """The job as it is told."""
    method = _METHODS.get(job.settings.get("objective", ""), Method.SUPERVISED)
    file = job.labels.get(labels.RESULT_FILE, "")
    return TuningJob(
        of=job,
        tenant=tenant,
        status=_STATUSES[job.state],
        method=method,
        hyperparameters=_hyperparameters(job, method),
        seed=int(job.settings.get("seed", 0)),
        metadata=labels.metadata(job.labels),
        fine_tuned_model=exact_name(job.model, job.version),
        result_files=(file,) if file else (),
        error=_error(job) if job.error_reason else None,
    )


def exact_name(model: str, version: str) -> str:
    """The name that means these weights for ever; empty without a version."""
    return f"{model}@{version}" if version else ""


def _base(base: str) -> str:
    return base if base in ("", "base") or base.startswith("base:") else f"base:{base}"


def _hyperparameters(job: Job, method: Method) -> Hyperparameters:
    settings: Settings = job.settings
    preference: Mapping[str, Any] = settings.get("preference", {})
    return Hyperparameters(
        n_epochs=settings.get("epochs"),
        batch_size=settings.get("batch_rows"),
        learning_rate_multiplier=float(job.labels.get(labels.MULTIPLIER, "1")),
        beta=preference.get("beta") if method is Method.DPO else None,
    )


def _error(job: Job) -> Error:
    return Error(job.error_reason, job.error_message, _FIELDS.get(job.error_reason, ""))
