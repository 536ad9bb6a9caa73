"""AdamW for each slot by itself: its own rate, betas, decay, step and clipping.

The formulas are those of `torch.nn.utils.clip_grad_norm_` and `torch.optim.AdamW`.  Invariant: an update reads and
writes one slot; a slot whose gradient is not finite is left as it was.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from services.trainer.bank.native import Kernels, Step
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


def apply(update: Update, kernels: Kernels | None) -> float:
    """Clip, step, and use the gradient up.  Returns the norm before clipping; not finite: nothing was changed."""
    slot = update.slot
    gradient = slot.gradients()
    norm = kernels.norm(gradient) if kernels else float(torch.linalg.vector_norm(gradient))
    if not math.isfinite(norm):
        slot.discard_gradient()
        return norm
    clips = 0 < update.max_gradient_norm < norm
    slot.step += 1
    step = Step(
        clip=update.max_gradient_norm / (norm + _CLIP_EPSILON) if clips else 1.0,
        decay=1 - update.learning_rate * update.weight_decay,
        beta1=update.beta1,
        beta2=update.beta2,
        step_size=update.learning_rate / (1 - update.beta1**slot.step),
        root_bias2=math.sqrt(1 - update.beta2**slot.step),
        epsilon=update.epsilon,
    )
    if kernels:
        kernels.step(step, slot.weights, gradient, slot.first_moment, slot.second_moment)
    else:
        _step(step, slot, gradient)
    slot.use_gradient_up()
    return norm


def _step(step: Step, slot: Slot, gradient: Tensor) -> None:
    """What native code does, in torch."""
    gradient.mul_(step.clip)
    slot.first_moment.lerp_(gradient, 1 - step.beta1)
    slot.second_moment.mul_(step.beta2).addcmul_(gradient, gradient, value=1 - step.beta2)
    divisor = (slot.second_moment.sqrt() / step.root_bias2).add_(step.epsilon)
    slot.weights.mul_(step.decay).addcdiv_(slot.first_moment, divisor, value=-step.step_size)
    gradient.zero_()
