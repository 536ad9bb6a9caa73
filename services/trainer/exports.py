"""What a checkpoint keeps beside its tensors so that a version can be made of it: no model is needed for that, or loaded.

Invariant: the version of a job's last checkpoint has, byte for byte, the files of the job's own result where that is the
weights of the last step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.trainer import checkpoints
from services.trainer.peft_layout import CONFIG, WEIGHTS, adapter_weight, config_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Under which name the state of a checkpoint holds it.
EXPORT = "export"
# What the tensors of a checkpoint are called from which a version is made.
SLOT_WEIGHTS = "slot.weights"
WEIGHT = "weight."


class Kind(StrEnum):
    """How the tensors of a checkpoint become a version's files."""

    # The flat vector of a slot of the bank.
    SLOT = "slot"
    # The parameters of an adapter, by their names inside the model.
    ADAPTER = "adapter"
    # All parameters, by their names inside the model.
    FULL = "full"


def slot(
    layers: Sequence[tuple[str, int, int, int]], config: Mapping[str, Any], facts: Mapping[str, object]
) -> dict[str, Any]:
    """Of a job on the bank: each adapted layer's name, inputs, outputs and rank, in the order of the vector."""
    return {EXPORT: {"kind": Kind.SLOT, "layers": layers, "config": config, "facts": facts}}


def adapter(names: Mapping[str, str], config: Mapping[str, Any], facts: Mapping[str, object]) -> dict[str, Any]:
    """Of an adapter trained alone: its parameters' names, each with the one that PEFT writes."""
    return {EXPORT: {"kind": Kind.ADAPTER, "names": names, "config": config, "facts": facts}}


def full(facts: Mapping[str, object]) -> dict[str, Any]:
    """Of a full model."""
    return {EXPORT: {"kind": Kind.FULL, "facts": facts}}


def exported(checkpoint: checkpoints.Checkpoint) -> dict[str, Any] | None:
    """What a checkpoint keeps of it; None for one that an earlier release wrote."""
    found: dict[str, Any] | None = checkpoints.load_state(checkpoint).get(EXPORT)
    return found


def facts_of(checkpoint: checkpoints.Checkpoint) -> dict[str, Any]:
    """The facts that belong to the version, as a finished job leaves them beside its result."""
    state = checkpoints.load_state(checkpoint)
    taken = {"weights_step": checkpoint.progress.step, "evaluations": state["history"]["evaluations"]}
    return {**state[EXPORT]["facts"], **taken}


def save(checkpoint: checkpoints.Checkpoint, base: Path, folder: Path) -> None:
    """Write the version's files into `folder`; a full model's come partly from the folder of its base."""
    found = exported(checkpoint)
    assert found is not None, "a checkpoint of an earlier release is refused before"
    if found["kind"] == Kind.FULL:
        _save_full(checkpoint, base, folder)
        return
    from safetensors.numpy import save_file

    tensors = _slot(checkpoint, found) if found["kind"] == Kind.SLOT else _adapter(checkpoint, found)
    save_file(dict(sorted(tensors)), str(folder / WEIGHTS), metadata={"format": "pt"})
    (folder / CONFIG).write_text(config_file(found["config"]))


def _slot(checkpoint: checkpoints.Checkpoint, found: Mapping[str, Any]) -> Iterator[tuple[str, NDArray[Any]]]:
    """A [rank, inputs] and B [outputs, rank] of each layer, fp32: A first, then B transposed, in the vector."""
    import numpy as np

    with _opened(checkpoint) as tensors:
        weights = tensors.get_tensor(SLOT_WEIGHTS)
    first = 0
    for name, inputs, outputs, rank in found["layers"]:
        middle, end = first + rank * inputs, first + rank * (inputs + outputs)
        yield adapter_weight(name, "A"), weights[first:middle].reshape(rank, inputs)
        yield adapter_weight(name, "B"), np.ascontiguousarray(weights[middle:end].reshape(rank, outputs).T)
        first = end
    assert first == len(weights), "the layers take up the whole vector"


def _adapter(checkpoint: checkpoints.Checkpoint, found: Mapping[str, Any]) -> Iterator[tuple[str, NDArray[Any]]]:
    with _opened(checkpoint) as tensors:
        for name, written in found["names"].items():
            yield written, tensors.get_tensor(WEIGHT + name)


def _save_full(checkpoint: checkpoints.Checkpoint, base: Path, folder: Path) -> None:
    from safetensors import safe_open

    from services.trainer.solo.models import base_dtype
    from services.trainer.solo.saving import save_full

    with safe_open(str(checkpoint.folder / checkpoints.TENSORS), framework="pt") as tensors:
        names = [name for name in tensors.keys() if name.startswith(WEIGHT)]  # noqa: SIM118  # no mapping
        weights = {name.removeprefix(WEIGHT): tensors.get_tensor(name) for name in names}
    save_full(weights, base, folder, base_dtype(base))


def _opened(checkpoint: checkpoints.Checkpoint) -> Any:
    from safetensors import safe_open

    return safe_open(str(checkpoint.folder / checkpoints.TENSORS), framework="np")
