"""Training jobs: how they train, what they say, what they would cost, sweeps and recipes.  As `nouns`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypedDict


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """LoRA's own settings; None takes the server's default (rank 16, alpha twice the rank, all linear layers).

    Of a job that goes on from a version None takes what that adapter has; anything else is refused when ordered.
    `rank_pattern` and `alpha_pattern` are by a module's name or the end of it; `layers` count from 0;
    `initialisation` is kaiming, gaussian or orthogonal.
    """

    rank: int | None = None
    alpha: float | None = None
    dropout: float | None = None
    target_modules: tuple[str, ...] = ()
    exclude_modules: tuple[str, ...] = ()
    layers: tuple[int, ...] = ()
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    initialisation: str = ""


@dataclass(frozen=True, slots=True)
class PreferenceSettings:
    """Settings of DPO (beta, label_smoothing) and KTO (beta and both weights); None takes the server's default."""

    beta: float | None = None
    label_smoothing: float | None = None
    desirable_weight: float | None = None
    undesirable_weight: float | None = None


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """Settings of a run; None takes the server's default, as does an empty word.

    `method` is lora, rslora, dora, qlora or full; `objective` supervised, continued, dpo or kto; `schedule` linear,
    cosine, constant or stable_decay; `supervision` assistant, last_answer or all; `metric` loss, exact_match, token_f1,
    valid_json or preference_accuracy; `keep` best or last.
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
    beta1: float | None = None
    beta2: float | None = None
    epsilon: float | None = None
    micro_batch_tokens: int | None = None
    gradient_checkpointing: bool | None = None
    packing: bool | None = None
    supervision: str = ""
    sample_rows: int | None = None
    validation_ratio: float | None = None
    evaluation_steps: int | None = None
    metric: str = ""
    early_stopping_patience: int | None = None
    early_stopping_delta: float | None = None
    keep: str = ""
    generation_rows: int | None = None
    generation_tokens: int | None = None
    preference: PreferenceSettings = field(default_factory=PreferenceSettings)


class JobFields(TypedDict, total=False):
    """What an order of a job says beside its model and its dataset; each may be left out.

    `base` is base:NAME or base:NAME@VERSION; `alias` takes the version when the job succeeds;
    `validation_dataset` is evaluated on; `start_version` is MODEL@VERSION or a digest to go on from; `priority` is
    low, normal or high; `deadline` is aware; `depends_on` are jobs that must succeed first; `processes` train a full
    model together; `recipe` is where the settings came from; `labels` are words of yours that stay with the job.
    """

    base: str
    alias: str
    settings: TrainingSettings
    validation_dataset: str
    start_version: str
    priority: str
    deadline: datetime | None
    depends_on: Sequence[str]
    processes: int
    recipe: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Job:
    """One training job.

    `state` is queued, running, pausing, paused, cancelling, registering, succeeded, failed or
    cancelled; `version` names the result, `error` says why it failed.  While it waits, `queue_position` counts from 1
    and `waiting_reason` says why, as it does of one that takes no steps; `evaluation` is the newest one's values by name, `best_step` that of the best.
    `memory_bytes` are set aside for the job itself, by arithmetic; what its process holds, its events tell.
    """

    job: str
    state: str
    model: str
    alias: str
    dataset: str
    dataset_digest: str
    base: str
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
    validation_dataset: str = ""
    validation_dataset_digest: str = ""
    start_version: str = ""
    priority: str = ""
    deadline: datetime | None = None
    depends_on: tuple[str, ...] = ()
    processes: int = 0
    sweep: str = ""
    recipe: str = ""
    queue_position: int = 0
    waiting_reason: str = ""
    estimated_start_time: datetime | None = None
    tokens_per_second: float = 0.0
    gradient_norm: float = 0.0
    learning_rate: float = 0.0
    memory_bytes: int = 0
    evaluation: Mapping[str, float] = field(default_factory=dict)
    best_step: int = 0
    warnings: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether the job will not change any more."""
        return self.state in {"succeeded", "failed", "cancelled"}


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One event of a job: `kind` is state, step, checkpoint, message or evaluation; a watch resumes after `sequence`.

    `evaluation` holds an evaluation's values by name; `tokens_per_second` is of late.  `memory_bytes` of a step is what its
    process had resident, measured: where jobs train jointly, for all of them and their base together.
    """

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
    evaluation: Mapping[str, float] = field(default_factory=dict)
    tokens_per_second: float = 0.0
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint of a job that is kept: steps done, digest of its tensors, length."""

    step: int
    digest: str
    size_bytes: int
    create_time: datetime | None


@dataclass(frozen=True, slots=True)
class PublishedCheckpoint:
    """What a checkpoint became: the version, and after how many steps its weights are."""

    version: str
    step: int


@dataclass(frozen=True, slots=True)
class JobEstimate:
    """What a job would cost; `memory_parts_bytes` sum to `memory_bytes`.

    `fits` says whether it can be trained here at all; where not, the last of `warnings` says why.
    `seconds` are on an idle machine at `tokens_per_second`, which is 0 where no such job has trained there yet: then
    they are rough, by arithmetic.  `settings` have every default filled in.
    """

    tokens: int
    seconds: float
    memory_bytes: int
    steps: int
    trainable_parameters: int
    version_bytes: int
    memory_parts_bytes: Mapping[str, int]
    fits: bool
    warnings: tuple[str, ...]
    tokens_per_second: float
    settings: TrainingSettings


@dataclass(frozen=True, slots=True)
class SweepRange:
    """A range that random search draws from, both ends included; `logarithmic` draws evenly in the logarithm."""

    low: float
    high: float
    logarithmic: bool = False


@dataclass(frozen=True, slots=True)
class SweepAxis:
    """One setting by the name that settings have (learning_rate, lora.rank, …), with values as text, or a range."""

    setting: str
    values: tuple[str, ...] = ()
    range: SweepRange | None = None


@dataclass(frozen=True, slots=True)
class SweepMember:
    """One line of a sweep's table: what the member differs in, where it stands, its best evaluation, its place from 1."""

    job: str
    values: Mapping[str, str]
    state: str
    ended_at_rung: int
    step: int
    evaluation: Mapping[str, float]
    rank: int


@dataclass(frozen=True, slots=True)
class SweepEstimate:
    """What a sweep would cost: over all members, less what those are spared that end at a rung.

    `seconds` are on an idle machine, rough where they are not `measured`.  `memory_bytes` are of all members at once; with
    less they take turns, and `largest_member_bytes` are needed in any case.  `fits` says whether every member can be
    trained here; where not, the last of `warnings` says why.
    """

    members: int
    steps: int
    tokens: int
    seconds: float
    measured: bool
    memory_bytes: int
    largest_member_bytes: int
    version_bytes: int
    fits: bool
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sweep:
    """A search over settings; `state` is running, succeeded, failed or cancelled; `table` has the best member first."""

    sweep: str
    state: str
    best: str
    version: str
    message: str
    table: tuple[SweepMember, ...]
    members: tuple[Job, ...]
    create_time: datetime | None
    end_time: datetime | None


@dataclass(frozen=True, slots=True)
class Recipe:
    """Settings by name for a purpose; `dataset` says what a row has, `choices` what may be chosen and what it means."""

    recipe: str
    title: str
    description: str
    dataset: str
    choices: Mapping[str, str]
    default_choice: str
    example_row: str
    settings: TrainingSettings


class RecipeOrder(TypedDict):
    """What `jobs.create` takes of a filled recipe."""

    model: str
    dataset: str
    recipe: str
    settings: TrainingSettings


@dataclass(frozen=True, slots=True)
class FilledRecipe:
    """An order that a recipe filled in for a dataset; `notes` say what was decided and why.

    `distinct_answers` are the labels among the rows, 0 where they were not counted.
    """

    model: str
    dataset: str
    recipe: str
    settings: TrainingSettings
    notes: tuple[str, ...]
    distinct_answers: int = 0

    def order(self) -> RecipeOrder:
        """As `jobs.create` takes it."""
        return RecipeOrder(model=self.model, dataset=self.dataset, recipe=self.recipe, settings=self.settings)
