"""What this shape writes on a trainer's job, so that the job alone says where it came from and what came of it.

Invariant: what one release wrote another reads; names stand here and nowhere else.
"""

from collections.abc import Mapping

from gateway.fine_tuning.order import Asked

_OURS = "openai."
TRAINING_FILE = _OURS + "training_file"
VALIDATION_FILE = _OURS + "validation_file"
MODEL = _OURS + "model"
SUFFIX = _OURS + "suffix"
MULTIPLIER = _OURS + "learning_rate_multiplier"
RESULT_FILE = _OURS + "result_file"
_METADATA = _OURS + "metadata."
_CHECKPOINT = _OURS + "checkpoint."
# Of more the oldest are forgotten here; their versions stay.
MOST_CHECKPOINTS = 16


def written(asked: Asked) -> dict[str, str]:
    """What is written on a job when it is ordered."""
    multiplier = asked.hyperparameters.learning_rate_multiplier
    said = {
        TRAINING_FILE: asked.training_file,
        VALIDATION_FILE: asked.validation_file,
        MODEL: asked.model,
        SUFFIX: asked.suffix,
        MULTIPLIER: "" if multiplier is None else repr(multiplier),
    }
    metadata = {_METADATA + name: value for name, value in asked.metadata.items()}
    return {name: value for name, value in said.items() if value} | metadata


def metadata(labels: Mapping[str, str]) -> dict[str, str]:
    """What the caller wrote on the job: its metadata, and labels that it has from elsewhere."""
    return {
        name.removeprefix(_METADATA): value
        for name, value in labels.items()
        if name.startswith(_METADATA) or not name.startswith(_OURS)
    }


def checkpoints(labels: Mapping[str, str]) -> dict[int, str]:
    """Steps whose checkpoints became versions, with these (sha256:…)."""
    return {
        int(name.removeprefix(_CHECKPOINT)): value for name, value in labels.items() if name.startswith(_CHECKPOINT)
    }


def with_checkpoint(labels: Mapping[str, str], step: int, version: str) -> dict[str, str]:
    """What changes when a checkpoint became a version: its own label, and the oldest that are one too many."""
    steps = sorted(checkpoints(labels).keys() | {step})
    forgotten = {f"{_CHECKPOINT}{old}": "" for old in steps[:-MOST_CHECKPOINTS]}
    return {f"{_CHECKPOINT}{step}": version} | forgotten
