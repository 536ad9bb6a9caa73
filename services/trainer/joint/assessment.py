"""What the log-probabilities of a held-out split say of a model.

Invariant: the loss of an evaluation is the loss that is trained on, over the whole split as one batch.
"""

import numpy
import torch
from torch import Tensor

from services.trainer.joint.dataset import Kind, Rows
from services.trainer.joint.objectives import dpo_losses, kto_losses, reference_point
from services.trainer.settings import Metric, Settings

MARGIN = "preference_margin"


def assessed(rows: Rows, scores: Tensor, reference: Tensor, settings: Settings) -> dict[str, float]:
    """Loss, and for preferences accuracy and margin.

    `scores` and `reference` hold the log-probability of each sequence of the split, [rows * width] fp32.
    """
    if rows.kind is Kind.PLAIN:
        counted = rows.supervised_tokens(range(len(rows)))
        return {Metric.LOSS.value: float(-scores.double().sum() / counted)}
    first, second = (scores - reference).view(-1, 2).unbind(1)
    if rows.kind is Kind.PAIR:
        return {
            Metric.LOSS.value: float(dpo_losses(first, second, settings).mean()),
            Metric.PREFERENCE_ACCURACY.value: float((first > second).float().mean()),
            MARGIN: float(settings.beta * (first - second).mean()),
        }
    desirable = torch.from_numpy(rows.desirable)
    moved = reference_point(scores.view(-1, 2)[:, 1], reference.view(-1, 2)[:, 1])
    found = {Metric.LOSS.value: float(kto_losses(first, desirable, moved, settings).mean())}
    if numpy.unique(rows.desirable).size == 2:
        found[MARGIN] = float(settings.beta * (first[desirable].mean() - first[~desirable].mean()))
    return found
