"""Trains a set by the trainer, as a user would: rows uploaded, a job for each learning rate, the best one kept.

Rates are swept alike for both methods: the product's own default of each, and a third and three times of it.  A job is
alone on the machine, so its time and memory are its own.
Invariant: rates are chosen by the loss on validation rows; nothing here sees a row that is tested on.
"""

import hashlib
import json
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trivium_client.errors import PreconditionError
from trivium_client.nouns import Job, LoraSettings, TrainingSettings

from services.chassis.models import DEFAULT_BASE, resolve
from services.trainer.settings import Method, Objective, default_learning_rate
from tests.load.finetune_quality.deployment import Deployment
from tests.load.finetune_quality.rows import QualitySet, Row
from tests.load.finetune_quality.state import State
from tests.load.finetune_quality.usage import counted, wait_for_quiet

METHODS = (Method.LORA, Method.FULL)
FACTORS = (1.0, 1 / 3, 3.0)
BATCH_ROWS, RANK = 8, 16
# Evaluations in a run; a rate that is behind the best one at the middle is not trained to its end.
_EVALUATIONS = 4
_NAMES = uuid.UUID("6f9d4b9e-4b7f-4a55-9a55-0d4d5fd1a7c1")


@dataclass(frozen=True, slots=True)
class Trained:
    """One rate of one method: losses on the validation rows by step, what it cost, and the version (empty: stopped).

    `why` says what became of a rate that has no version.
    """

    method: str
    rate: float
    steps: int
    losses: dict[int, float]
    version: str
    why: str
    trained_tokens: int
    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int
    trainable_parameters: int
    stored_bytes: int

    @property
    def loss(self) -> float:
        """The loss of the weights that became the version."""
        return min(self.losses.values())

    def write(self, state: State, name: str) -> None:
        """Keep it."""
        state.write(name, asdict(self))

    @classmethod
    def read(cls, state: State, name: str) -> "Trained | None":
        """What was kept under a name."""
        kept = state.read(name)
        # JSON's names are texts.
        return kept and cls(**{**kept, "losses": {int(step): loss for step, loss in kept["losses"].items()}})


def rates(method: Method, objective: Objective) -> list[float]:
    """The rates that are tried, the default first."""
    base = json.loads((resolve(DEFAULT_BASE).path / "config.json").read_text())
    middle = default_learning_rate(method, objective, base["hidden_size"])
    return [float(f"{middle * factor:.2e}") for factor in FACTORS]


def settings_of(task: QualitySet, method: Method, rate: float, seed: int) -> TrainingSettings:
    """How a set is trained; both methods alike but for what is trained, and the rate."""
    steps = -(-len(task.training) // BATCH_ROWS) * task.epochs
    return TrainingSettings(
        method=method.value,
        objective=(Objective.DPO if task.pairs else Objective.SUPERVISED).value,
        schedule="linear",
        lora=LoraSettings(rank=RANK, alpha=2.0 * RANK) if method is Method.LORA else LoraSettings(),
        epochs=task.epochs,
        batch_rows=BATCH_ROWS,
        learning_rate=rate,
        seed=seed,
        # No row is as long as this; full fine-tuning of twice as many tokens at once is refused on 24 GiB.
        max_row_tokens=256,
        micro_batch_tokens=1024,
        evaluation_steps=max(1, -(-steps // _EVALUATIONS)),
        metric="loss",
        keep="best",
        checkpoint_steps=50,
    )


def fingerprint(task: QualitySet, seed: int) -> str:
    """Digest of the rows, and of all settings that they are trained with."""
    objective = Objective.DPO if task.pairs else Objective.SUPERVISED
    settings = [
        asdict(settings_of(task, method, rate, seed)) for method in METHODS for rate in rates(method, objective)
    ]
    return hashlib.sha256(json.dumps([task.fingerprint, settings], sort_keys=True).encode()).hexdigest()[:16]


def swept(deployment: Deployment, state: State, task: QualitySet, method: Method, seed: int) -> list[Trained]:
    """Every rate of a method, the best first; those that are kept in `state` are not trained again.

    Raises RuntimeError when no rate came to its end.
    """
    done: list[Trained] = []
    for rate in rates(method, Objective.DPO if task.pairs else Objective.SUPERVISED):
        name = f"trained-{method.value}-{rate:g}"
        found = Trained.read(state, name)
        if found is None:
            best = min((each for each in done if each.version), key=lambda each: each.loss, default=None)
            found = _trained(deployment, state, task, settings_of(task, method, rate, seed), seed, best)
            found.write(state, name)
        done.append(found)
        print(_told(found), flush=True)
    if not any(each.version for each in done):
        raise RuntimeError(f"no rate of {method.value} came to its end: {'; '.join(each.why for each in done)}")
    return sorted(done, key=lambda each: (not each.version, each.loss if each.losses else 0.0))


def _trained(
    deployment: Deployment, state: State, task: QualitySet, settings: TrainingSettings, seed: int, best: Trained | None
) -> Trained:
    client = deployment.client
    name = f"{settings.method}-{settings.learning_rate:g}"
    order: dict[str, Any] = {
        "model": f"{task.name.replace('_', '-')}-{settings.method}",
        "dataset": _uploaded(deployment, state, task, "training", task.training),
        "validation_dataset": _uploaded(deployment, state, task, "validation", task.validation),
        "settings": settings,
    }
    parameters = client.jobs.estimate(**order).trainable_parameters
    begun = state.read(f"job-{name}")
    if begun is None:
        wait_for_quiet(deployment.trainer)
        # The same id again is the same job, also when this process is killed before it has noted which.
        wanted = uuid.uuid5(_NAMES, f"{fingerprint(task, seed)} {name}")
        begun = {"job": client.jobs.create(**order, request_id=str(wanted)).job}
        state.write(f"job-{name}", begun)
    losses: dict[int, float] = {}
    with counted(deployment.trainer, state, f"usage-{name}") as usage:
        behind = _followed(deployment, begun["job"], losses, best)
    job = client.jobs.get(begun["job"])
    return Trained(
        method=settings.method,
        rate=settings.learning_rate or 0.0,
        steps=job.step,
        losses=losses,
        version=job.version,
        why=_why(job, behind),
        trained_tokens=job.trained_tokens,
        wall_seconds=usage.wall_seconds,
        cpu_seconds=usage.cpu_seconds,
        peak_bytes=usage.peak_bytes,
        trainable_parameters=parameters,
        stored_bytes=_stored_bytes(deployment, job),
    )


def _uploaded(deployment: Deployment, state: State, task: QualitySet, split: str, rows: Sequence[Row]) -> str:
    path = state.folder / f"{split}.jsonl"
    path.write_text("".join(json.dumps(record(task, row), ensure_ascii=False) + "\n" for row in rows))
    return deployment.client.data.upload(path, name=f"{task.name.replace('_', '-')}-{split}").digest


def record(task: QualitySet, row: Row) -> dict[str, object]:
    """A row as the trainer takes it."""
    asked = [{"role": "system", "content": task.instruction}, {"role": "user", "content": row.text}]
    answer = [{"role": "assistant", "content": row.answer}]
    if task.pairs:
        rejected = [{"role": "assistant", "content": row.rejected}]
        return {"prompt": asked, "chosen": answer, "rejected": rejected}
    return {"messages": [*asked, *answer]}


def _followed(deployment: Deployment, job: str, losses: dict[int, float], best: Trained | None) -> bool:
    """Note the evaluations of a job until it has ended; whether it was stopped because it is behind the best."""
    behind = False
    for event in deployment.client.jobs.watch(job):
        if "loss" not in event.evaluation:
            continue
        losses[event.step] = event.evaluation["loss"]
        print(f"    step {event.step} of {event.total_steps}: loss {losses[event.step]:.3f}", flush=True)
        if best is not None and not behind and is_behind(losses, best.losses):
            behind = True
            try:
                deployment.client.jobs.cancel(job)
            except PreconditionError:
                # It ended meanwhile, or was told before this process was killed.
                continue
    return behind


def is_behind(losses: dict[int, float], leader: dict[int, float]) -> bool:
    """Whether a rate has come to the middle and is worse there than the leader was at the same step."""
    middle = sorted(leader)[(len(leader) - 1) // 2]
    return middle in losses and losses[middle] > leader[middle]


def _why(job: Job, behind: bool) -> str:
    if job.state == "succeeded":
        return ""
    if behind and job.state == "cancelled":
        return "behind the best rate at the middle"
    if job.error_reason:
        return f"{job.error_reason}: {job.error}"
    raise RuntimeError(f"job {job.job} is {job.state}, which nobody asked for")


def _stored_bytes(deployment: Deployment, job: Job) -> int:
    if not job.version:
        return 0
    return sum(file.size_bytes for file in deployment.client.models.version(job.version).files)


def fetched(deployment: Deployment, folder: Path, version: str) -> Path:
    """A version's files in `folder`."""
    deployment.client.models.download(version, folder)
    return folder


def drop_others(deployment: Deployment, done: Sequence[Trained]) -> None:
    """Delete the versions behind the first: a full model is a quarter of a gibibyte and more."""
    client = deployment.client
    kept = client.models.version(done[0].version)
    for version in list(client.models.versions(kept.model)):
        if version.version != kept.version:
            client.models.delete_version(version.version, model=kept.model, purge=True)


def _told(found: Trained) -> str:
    curve = ", ".join(f"{step}: {loss:.3f}" for step, loss in sorted(found.losses.items()))
    end = found.why or f"{found.stored_bytes / 2**20:.0f} MiB stored"
    return (
        f"  {found.method} at {found.rate:g}: loss by step {curve}; {found.wall_seconds:.0f} s, "
        f"{found.cpu_seconds:.0f} CPU s, {found.peak_bytes / 2**30:.2f} GiB; {end}"
    )
