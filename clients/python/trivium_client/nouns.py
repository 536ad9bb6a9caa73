"""What calls return: frozen records in plain Python types.  Times are aware datetimes in UTC, None where unset."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Collection:
    """A set of documents that are searched together."""

    collection: str
    description: str
    embedding_digest: str
    etag: str
    create_time: datetime | None


@dataclass(frozen=True, slots=True)
class Document:
    """One document; `state` is pending, running, ready or failed, and `reason` says why it waits or failed."""

    collection: str
    document: str
    title: str
    state: str
    reason: str
    serving_version: str
    newest_version: str
    media_type: str
    metadata: dict[str, str]
    chunks: int
    chunks_embedded: int
    chunks_reused: int
    update_time: datetime | None


@dataclass(frozen=True, slots=True)
class DocumentText:
    """Characters of one document version, and how many the whole version has."""

    text: str
    version: str
    characters: int


@dataclass(frozen=True, slots=True)
class Span:
    """Characters [start, end), in code points, of one immutable document version."""

    collection: str
    document: str
    version: str
    start: int
    end: int
    chunk: str = ""
    marker: int = 0


@dataclass(frozen=True, slots=True)
class Hit:
    """One passage that a search found; `dense_score` is a cosine, `sparse_score` BM25, None where that arm missed it."""

    span: Span
    text: str
    title: str
    heading_path: tuple[str, ...]
    score: float
    dense_score: float | None = None
    sparse_score: float | None = None


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


@dataclass(frozen=True, slots=True)
class Model:
    """A named line of versions; `keep_last` and `keep_days` bound which are kept, 0 bounds nothing."""

    model: str
    description: str
    etag: str
    labels: dict[str, str]
    create_time: datetime | None
    task: str = ""
    keep_last: int = 0
    keep_days: int = 0
    delete_time: datetime | None = None
    purge_time: datetime | None = None
    card: str = ""


@dataclass(frozen=True, slots=True)
class VersionFile:
    """One file of a version."""

    filename: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One measurement of a version; `dataset_digest` is empty when no dataset was named."""

    metric: str
    value: float
    dataset_digest: str = ""
    dataset_rows: int = 0
    note: str = ""
    principal: str = ""
    create_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Version:
    """An immutable version; `version` is sha256:… of its manifest, `kind` lora or full.

    `unservable_reason` says why no engine loads it as it is; `merge` makes a full model of it that one does.
    """

    model: str
    version: str
    number: int
    kind: str
    base_digest: str
    rank: int
    files: tuple[VersionFile, ...]
    job: str
    dataset_digest: str
    parent_version: str
    config: dict[str, Any]
    metrics: dict[str, float]
    trained_tokens: int
    create_time: datetime | None
    tags: tuple[str, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    further_parents: tuple[str, ...] = ()
    code_version: str = ""
    base_uri: str = ""
    delete_time: datetime | None = None
    purge_time: datetime | None = None
    unservable_reason: str = ""


@dataclass(frozen=True, slots=True)
class Canary:
    """A version that gets `percent` of an alias's requests while `state` is serving, not while pending or failed."""

    version: str
    number: int
    percent: int
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class Alias:
    """A name for a version; `state` is serving, pending or failed, and `reason` says why it does not serve its target."""

    model: str
    alias: str
    target_version: str
    serving_version: str
    state: str
    reason: str
    etag: str
    update_time: datetime | None
    previous_version: str = ""
    canaries: tuple[Canary, ...] = ()


@dataclass(frozen=True, slots=True)
class AliasMove:
    """One thing that happened to an alias; `kind` is set, rollback, canary, delete or refused (by a gate).

    `percent` is a canary's share from then on; `reason` is what whoever asked said, `detail` what gates found.
    """

    number: int
    from_version: str
    to_version: str
    principal: str
    create_time: datetime | None
    kind: str = ""
    percent: int = 0
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One name that `model` accepts; `kind` is base, adapter or full."""

    name: str
    kind: str
    version: str
    base_digest: str


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine of the generator; `start_time` does not change when adapters are swapped.

    `model` and `version` are your own full model that it serves, empty for a base of the deployment. `memory_bytes` is
    measured now, `estimated_bytes` what its memory budget counts it with.
    """

    engine: str
    state: str
    build: str
    base: str
    base_digest: str
    slots: int
    max_rank: int
    context_tokens: int
    running: int
    waiting: int
    restarts: int
    start_time: datetime | None
    model: str = ""
    version: str = ""
    memory_bytes: int = 0
    estimated_bytes: int = 0
    idle_seconds: float = 0.0
    last_error: str = ""


@dataclass(frozen=True, slots=True)
class Adapter:
    """One adapter as the generator holds it; `tier` is remote, file, memory or slot.

    `priority` says how much it matters when something has to make room: ad_hoc, previous, candidate, serving or
    protected, the first to leave first.
    """

    version: str
    model: str
    tier: str
    size_bytes: int
    in_flight: int
    pinned: bool
    load_seconds: float
    priority: str = ""


@dataclass(frozen=True, slots=True)
class TierUsage:
    """What the tenant's adapters take of one of the generator's tiers, and what happened there since it started.

    `limit_versions` and `limit_bytes` are the deployment's, 0 for none of that kind.  `hits` counts requests that found
    their version in this tier and in none nearer.
    """

    tier: str
    versions: int
    size_bytes: int
    limit_versions: int
    limit_bytes: int
    hits: int
    loads: int
    evictions: int


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key's public half; `secret` is the whole key, shown by `create` alone."""

    key: str
    tenant: str
    display_name: str
    roles: tuple[str, ...]
    revoked: bool
    secret: str = field(default="", repr=False)
