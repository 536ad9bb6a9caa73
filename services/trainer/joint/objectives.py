"""What a job minimises: from log-probabilities of supervised tokens to one number.

Invariant: a loss is the sum over rows divided by what the job's whole optimizer batch counts, never the micro-batch; so
how a batch is split changes memory and not what is learned.
"""

import torch
from torch import Tensor
from torch.nn import functional

from services.trainer.settings import Settings


def cross_entropy(log_probs: Tensor, counted_tokens: int) -> Tensor:
    """Negative log-likelihood [] of `log_probs` [tokens] over the batch's `counted_tokens`."""
    return -log_probs.sum() / counted_tokens


def dpo_losses(chosen: Tensor, rejected: Tensor, settings: Settings) -> Tensor:
    """Loss of each pair, [pairs]; both arguments are log-ratios of policy over reference, [pairs].

    Rafailov et al., "Direct Preference Optimization" (2023), equation 7; with `label_smoothing` e the conservative form
    of Mitchell's note "cDPO" (2023): the loss of the pair as it is, weighted 1 - e, and of the flipped one, weighted e.
    """
    margin = settings.beta * (chosen - rejected)
    wrong = settings.label_smoothing
    return -functional.logsigmoid(margin) * (1 - wrong) - functional.logsigmoid(-margin) * wrong


def kto_losses(ratios: Tensor, desirable: Tensor, moved: float, settings: Settings) -> Tensor:
    """Loss of each answer, [rows].

    `ratios` [rows] are log-ratios of policy over reference, `desirable` [rows] bool, `moved` the reference point
    (`reference_point`).  Ethayarajh et al., "KTO" (2024), equation 8.
    """
    wanted = settings.desirable_weight * (1 - torch.sigmoid(settings.beta * (ratios - moved)))
    unwanted = settings.undesirable_weight * (1 - torch.sigmoid(settings.beta * (moved - ratios)))
    return torch.where(desirable, wanted, unwanted)


def reference_point(mismatched: Tensor, reference: Tensor) -> float:
    """How far the model has moved altogether: the mean log-ratio of mismatched answers [rows], never below 0."""
    return max(0.0, float((mismatched - reference).mean()))


def by_sequence(log_probs: Tensor, lengths: list[int]) -> Tensor:
    """Sum `log_probs` [tokens] over each sequence: [sequences]."""
    return torch.stack([part.sum() for part in log_probs.split(lengths)])
