"""Checkpoints as earlier releases wrote them, spelt out: nothing here is shared with what writes them today.

A folder `step-N`: `state.safetensors`, `progress.json`, from format 2 on `state.json`, and `manifest.json` with the size
and digest of each.  Format 1 says no number, has tensors by the names that they had inside PEFT's model, and trained
supervised LoRA alone.  Format 2 has the tensors of today and beside them the history of evaluations.  Format 3 also says
how a version is made of the tensors and, soon after it began, what was told of the last steps.  In both the references
of judged rows are of each row's question with the answer of the row before.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from services.trainer.bank import Slot
from services.trainer.job import Progress
from services.trainer.joint.history import History
from services.trainer.joint.member import Member
from services.trainer.settings import Keep

_HISTORY = ("best_step", "best_value", "misses", "evaluated_step", "ended", "evaluations")


def write(
    root: Path,
    number: int,
    tensors: Mapping[str, Tensor],
    progress: Mapping[str, object],
    state: Mapping[str, object] | None = None,
) -> Path:
    """Write one checkpoint of this format below `root`; return its folder."""
    folder = root / f"step-{progress['step']:08d}"
    folder.mkdir(parents=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "state.safetensors")
    (folder / "progress.json").write_text(json.dumps(progress, sort_keys=True))
    if number > 1:
        (folder / "state.json").write_text(json.dumps(state, sort_keys=True))
    manifest = {
        "step": progress["step"],
        "files": {file.name: _described(file) for file in folder.iterdir()},
        "libraries": {"torch": "x"},
        "create_time": "2026-11-25T10:00:00+00:00",
    } | ({"format": number} if number > 1 else {})
    (folder / "manifest.json").write_text(json.dumps(manifest, sort_keys=True))
    return folder


def write_first(root: Path, slot: Slot, progress: Progress) -> Path:
    """A job of format 1, which knew of no evaluations."""
    told = {name: getattr(progress, name) for name in ("step", "total_steps", "trained_tokens", "loss")}
    return write(root, 1, _by_peft_names(slot, progress.step), told)


def write_joint(root: Path, number: int, member: Member) -> Path:
    """A job on the bank, between two steps, as a release of this format would have left it."""
    if number == 1:
        return write_first(root, member.slot, member.progress)
    slot = member.slot
    tensors: dict[str, Tensor] = {
        "slot.weights": slot.weights,
        "slot.first_moment": slot.first_moment,
        "slot.second_moment": slot.second_moment,
        "slot.step": torch.tensor(slot.step),
        "slot.generator": slot.generator.get_state(),
    }
    if best := _best(member):
        tensors |= {f"best.{name}": tensor for name, tensor in best.items()}
    tensors |= {f"reference.{split}": tensor for split, tensor in member._references.tensors().items()}
    state: dict[str, Any] = {"history": _history(member.history)}
    if number == 3:
        layers = [[one.name, one.inputs, one.outputs, one.rank] for one in slot.targets]
        state["export"] = {"kind": "slot", "layers": layers, "config": {}, "facts": {"rows": member.rows}}
        state["said"] = [_told(line) for line in member.remembered]
    return write(root, number, tensors, _progress(member.progress), state)


def write_solo(root: Path, number: int, now: Path) -> Path:
    """The checkpoint in the folder `now` of a job that trains alone, as a release of this format would have left it."""
    from safetensors.torch import load_file

    # By name: what a later release adds is not among them.
    names = ("generator", "weight", "exp_avg", "exp_avg_sq", "best", "reference")
    held = load_file(now / "state.safetensors")
    tensors = {name: tensor for name, tensor in held.items() if name.partition(".")[0] in names}
    for name in ("torch", "numpy", "numpy_gauss", "python", "python_gauss"):
        assert f"generator.{name}" in tensors
    found, progress = (json.loads((now / name).read_text()) for name in ("state.json", "progress.json"))
    state = {"history": {name: found["history"][name] for name in _HISTORY}}
    if number == 3:
        state["reported"] = found["reported"]
        state["export"] = {name: found["export"][name] for name in found["export"]}
    return write(root, number, tensors, _progress(Progress(**progress)), state)


def _by_peft_names(slot: Slot, step: int) -> dict[str, Tensor]:
    """A [rank, inputs] and B [outputs, rank] of each layer; before the first step there were no moments."""
    found = {"generator": slot.generator.get_state()}
    vectors = {"weight": slot.weights}
    if step:
        vectors |= {"exp_avg": slot.first_moment, "exp_avg_sq": slot.second_moment}
    for part, vector in vectors.items():
        for target in slot.targets:
            down, up = slot.matrices(target.module, vector)
            layer = f"{part}.base_model.model.{target.name}"
            found[f"{layer}.lora_A.default.weight"] = down.clone()
            found[f"{layer}.lora_B.default.weight"] = up.t().clone(memory_format=torch.contiguous_format)
    return found


def _best(member: Member) -> dict[str, Tensor]:
    """The best weights so far, by PEFT's names for a finished adapter; empty where none are kept."""
    kept = member.settings.keep is Keep.BEST and member.history.best_step
    return dict(member.result()) if kept else {}


def _progress(progress: Progress) -> dict[str, object]:
    names = ("step", "total_steps", "trained_tokens", "loss", "best_step")
    return {name: getattr(progress, name) for name in names}


def _history(history: History) -> dict[str, object]:
    return {name: getattr(history, name) for name in _HISTORY}


def _told(line: Any) -> dict[str, object]:
    """A line of the last steps, without what is 0 or empty."""
    names = ("learning_rate", "gradient_norm", "tokens_per_second", "memory_bytes", "evaluation")
    told = {name: getattr(line, name) for name in names}
    return {"said": str(line.said), "progress": _progress(line.progress)} | {
        name: value for name, value in told.items() if value
    }


def _described(file: Path) -> dict[str, object]:
    content = file.read_bytes()
    return {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
