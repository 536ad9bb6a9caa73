"""Reads what the previous release stored of a job: tensors by the names that they had inside PEFT's model.

Invariant: a job that began under that release goes on where it stood, weights and moments and generator; its further
steps are the bank's.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from services.trainer.bank import Slot

_NAME = "{part}.base_model.model.{layer}.lora_{matrix}.default.weight"
_VECTORS = {"weights": "weight", "first_moment": "exp_avg", "second_moment": "exp_avg_sq"}


def slot_tensors(slot: Slot, tensors: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
    """Return checkpoint tensors of format 1 as `Slot.restore` takes them.

    Raises ValueError, a sentence, for those of an adapter with other layers or ranks.
    """
    found: dict[str, Tensor] = {"step": torch.tensor(step), "generator": tensors["generator"]}
    for vector, part in _VECTORS.items():
        flat = torch.zeros(slot.parameters)
        # Before the first step there were no moments.
        if step or vector == "weights":
            _fill(slot, flat, tensors, part)
        found[vector] = flat
    return found


def _fill(slot: Slot, flat: Tensor, tensors: Mapping[str, Tensor], part: str) -> None:
    for target in slot.targets:
        down, up = slot.matrices(target.module, flat)
        names = [_NAME.format(part=part, layer=target.name, matrix=matrix) for matrix in "AB"]
        if missing := [name for name in names if name not in tensors]:
            raise ValueError(f"its checkpoint has no {missing[0]}")
        first, second = (tensors[name] for name in names)
        if first.shape != down.shape or second.t().shape != up.shape:
            raise ValueError(f"its checkpoint has another rank at {target.name}")
        down.copy_(first)
        up.copy_(second.t())
