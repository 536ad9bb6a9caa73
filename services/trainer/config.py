"""What the trainer reads from the environment."""

from enum import StrEnum
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from services.chassis.config import ServiceSettings, environment
from services.chassis.models import DEFAULT_BASE
from services.trainer.planning import Allowance
from services.trainer.scheduling.state import Policy, Priority


class TenantAllowance(BaseModel):
    """What the operator grants a tenant, as it is written in `allowances` (`planning.Allowance`); None is no limit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    resident_bytes: int | None = Field(default=None, ge=1)
    concurrent_jobs: int | None = Field(default=None, ge=1)
    tokens_per_hour: int | None = Field(default=None, ge=1)
    highest_priority: Literal["low", "normal", "high"] | None = None

    @property
    def allowance(self) -> Allowance:
        """As the queue takes it."""
        highest = self.highest_priority
        return Allowance(
            self.weight,
            self.resident_bytes,
            self.concurrent_jobs,
            self.tokens_per_hour,
            Priority[highest.upper()] if highest else Priority.HIGH,
        )


class ExecutorKind(StrEnum):
    """Where jobs train."""

    LOCAL = "local"
    RAY = "ray"


class TrainerSettings(ServiceSettings):
    """Settings of the trainer; sizes in bytes, times in seconds."""

    service: ClassVar[str] = "trainer"
    model_config = environment("trainer")

    base_model: str = Field(default=DEFAULT_BASE, validation_alias="TRIVIUM_BASE_MODEL")
    # Further bases of the deployment that are trained on, by URI (wheel:, file:, hf:), with commas between.
    bases: str = ""
    # What jobs and their bases may take of a machine's memory together; 0 takes the machine's plan.
    memory_bytes: int = Field(default=0, ge=0)
    # s3://bucket/prefix for datasets, with the credentials in the AWS variables; empty keeps them in the data folder.
    # Give the bucket a rule that aborts incomplete multipart uploads: parts of a killed process are not listed.
    blobs_url: str = ""
    max_dataset_bytes: int = Field(default=256 * 1024 * 1024, ge=1)
    # How long an upload that became no dataset is kept, and how often that is looked at.
    unused_upload_seconds: float = Field(default=24 * 3600.0, gt=0)
    sweep_seconds: float = Field(default=3600.0, gt=0)
    # Jobs of a tenant that have not ended, members of sweeps too: all of them are looked at whenever it is planned.
    max_unfinished_jobs_per_tenant: int = Field(default=2000, ge=1)
    # Threads of a training process; 0 takes the machine's plan.  Results are exact for one count.
    threads: int = Field(default=0, ge=0)
    # A process that ends this often without a new checkpoint in between fails its job.
    max_crashes: int = Field(default=4, ge=1)
    restart_seconds: float = Field(default=0.5, gt=0)
    max_restart_seconds: float = Field(default=30.0, gt=0)
    # Checkpoints of a job that failed or was cancelled stay for so long, in so many bytes in all (the oldest go first), and
    # while the disk has room: until then versions are made of them.
    ended_checkpoint_seconds: float = Field(default=24 * 3600.0, ge=0)
    ended_checkpoint_bytes: int = Field(default=20 * 1024**3, ge=0)
    # How long a process may take to finish its step and write a checkpoint when the trainer stops.
    stop_seconds: float = Field(default=15.0, gt=0)
    # The highest rank that the generator serves: a job with a higher one is warned of it.
    serving_rank: int = Field(default=16, ge=1, validation_alias="TRIVIUM_GENERATOR_MAX_LORA_RANK")
    # A base that no job needs stays in memory for so long.
    idle_seconds: float = Field(default=60.0, ge=0)
    # Another trainer may take a job over when its holder has been silent for so long.
    lease_seconds: float = Field(default=15.0, gt=0)
    # A trained job that is not registered yet is trained again when nobody has said for so long that its result is there:
    # longer than it takes to start a machine again, since training takes longer still.
    lost_result_seconds: float = Field(default=900.0, gt=0)
    # Where jobs train: on this machine (local), or on all machines of a Ray cluster (ray), of which this one must be a
    # node and which no other trainer uses.  Ray's head is at ray_address (host:port); no cluster is started here.  All
    # machines need data_dir and the model cache at the same paths (a shared file system), and the same code installed.
    executor: ExecutorKind = ExecutorKind.LOCAL
    ray_address: str = ""
    # By tenant (* for everybody else) as JSON: {"acme": {"weight": 2, "resident_bytes": 4e9, "concurrent_jobs": 8,
    # "tokens_per_hour": 1000000, "highest_priority": "normal"}}; what is left out is weight 1 and no limit.
    allowances: dict[str, TenantAllowance] = Field(default_factory=dict)
    # Fairness between tenants: how fast use is forgotten, what a start counts before it has used anything, and how long
    # a job trains before it may be put off for another.
    half_life_seconds: float = Field(default=168 * 3600.0, gt=0)
    entry_penalty_seconds: float = Field(default=60.0, ge=0)
    quantum_seconds: float = Field(default=60.0, gt=0)

    @field_validator("base_model", "bases")
    @classmethod
    def _named(cls, value: str) -> str:
        if any(uri.partition(":")[0] not in ("wheel", "file", "hf") for uri in _uris(value)):
            raise ValueError("begin it with wheel:, file: or hf:")
        return value

    @model_validator(mode="after")
    def _addressed(self) -> Self:
        if self.executor is ExecutorKind.RAY and not self.ray_address.rpartition(":")[2].isdecimal():
            raise ValueError(
                "TRIVIUM_TRAINER_EXECUTOR=ray needs TRIVIUM_TRAINER_RAY_ADDRESS, host:port of the head of a running "
                "Ray cluster, as `ray start --head` prints it"
            )
        return self

    @property
    def policy(self) -> Policy:
        """Fairness as the scheduler takes it."""
        return Policy(
            half_life_seconds=self.half_life_seconds,
            entry_penalty_seconds=self.entry_penalty_seconds,
            quantum_seconds=self.quantum_seconds,
        )

    @property
    def allowance_by_tenant(self) -> dict[str, Allowance]:
        """The allowances as the queue takes them."""
        return {tenant: written.allowance for tenant, written in self.allowances.items()}

    @property
    def workers_dir(self) -> Path:
        """Where processes of many jobs keep what they need, a folder each."""
        return self.service_dir / "workers"

    @property
    def base_uris(self) -> list[str]:
        """All of the deployment's bases, the default first."""
        return list(dict.fromkeys([self.base_model, *_uris(self.bases)]))

    @property
    def datasets_dir(self) -> Path:
        """Where earlier releases kept datasets, a folder a tenant; what is found there moves to the blobs."""
        return self.service_dir / "datasets"

    @property
    def blobs_dir(self) -> Path:
        """Where datasets lie, or copies of those that are in a bucket."""
        return self.service_dir / "blobs"

    @property
    def reports_dir(self) -> Path:
        """Where lists of problems of datasets are kept for a day, a folder a tenant."""
        return self.service_dir / "reports"

    @property
    def uploads_dir(self) -> Path:
        """Where unfinished uploads grow, a folder a tenant."""
        return self.service_dir / "uploads"

    @property
    def publications_dir(self) -> Path:
        """Where versions of checkpoints are made, a folder each; on the disk of `jobs_dir`."""
        return self.service_dir / "publications"

    @property
    def jobs_dir(self) -> Path:
        """Where training processes work, a folder a job."""
        return self.service_dir / "jobs"


def _uris(text: str) -> list[str]:
    return [uri.strip() for uri in text.split(",") if uri.strip()]
