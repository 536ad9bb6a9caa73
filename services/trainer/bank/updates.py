"""AdamW for each slot by itself: its own rate, betas, decay, step and clipping.

The formulas are those of `torch.nn.utils.clip_grad_norm_` and `torch.optim.AdamW`.  Invariant: an update reads and
writes one slot; a slot whose gradient is not finite is left as it was.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from services.trainer.bank.slot import Slot

# As in torch.nn.utils.clip_grad_norm_.
_CLIP_EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class Update:
    """One optimizer step of one slot.  `max_gradient_norm` 0 does not clip."""

    slot: Slot
    learning_rate: float
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    max_gradient_norm: float = 1.0


def apply(update: Update) -> float:
    """Clip, step, and use the gradient up.  Returns the norm before clipping; not finite: nothing was changed."""
    slot = update.slot
    gradient = slot.gradients()
    norm = float(torch.linalg.vector_norm(gradient))
    slot.discard_gradient()
    if not math.isfinite(norm):
        return norm
    if 0 < update.max_gradient_norm < norm:
        gradient *= update.max_gradient_norm / (norm + _CLIP_EPSILON)
    slot.step += 1
    slot.first_moment.lerp_(gradient, 1 - update.beta1)
    slot.second_moment.mul_(update.beta2).addcmul_(gradient, gradient, value=1 - update.beta2)
    bias1 = 1 - update.beta1**slot.step
    bias2 = 1 - update.beta2**slot.step
    divisor = (slot.second_moment.sqrt() / math.sqrt(bias2)).add_(update.epsilon)
    slot.weights.mul_(1 - update.learning_rate * update.weight_decay)
    slot.weights.addcdiv_(slot.first_moment, divisor, value=-update.learning_rate / bias1)
    return norm
