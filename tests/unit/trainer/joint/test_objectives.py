"""Losses against their formulas, written out number by number."""

import math

import pytest
import torch

from services.trainer.joint.objectives import by_sequence, cross_entropy, dpo_losses, kto_losses, reference_point
from services.trainer.settings import Settings


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_cross_entropy_is_over_what_the_whole_batch_counts() -> None:
    log_probs = torch.tensor([-1.0, -2.0, -0.5])
    assert float(cross_entropy(log_probs, 10)) == pytest.approx(0.35)


def test_micro_batches_add_up_to_the_loss_of_the_batch() -> None:
    log_probs = torch.tensor([-1.0, -2.0, -0.5])
    parts = cross_entropy(log_probs[:1], 3) + cross_entropy(log_probs[1:], 3)
    assert float(parts) == pytest.approx(float(cross_entropy(log_probs, 3)))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_dpo_is_the_formula_of_the_paper(smoothing: float) -> None:
    settings = Settings(beta=0.3, label_smoothing=smoothing)
    chosen, rejected = [1.5, -0.2], [0.5, 0.4]
    wanted = [
        -(1 - smoothing) * math.log(sigmoid(0.3 * (good - bad))) - smoothing * math.log(sigmoid(-0.3 * (good - bad)))
        for good, bad in zip(chosen, rejected, strict=True)
    ]
    assert dpo_losses(torch.tensor(chosen), torch.tensor(rejected), settings).tolist() == pytest.approx(wanted)


def test_kto_weighs_what_is_wanted_and_what_is_not() -> None:
    settings = Settings(beta=0.2, desirable_weight=1.5, undesirable_weight=0.5)
    found = kto_losses(torch.tensor([1.0, -0.5]), torch.tensor([True, False]), 0.3, settings)
    wanted = [1.5 * (1 - sigmoid(0.2 * (1.0 - 0.3))), 0.5 * (1 - sigmoid(0.2 * (0.3 + 0.5)))]
    assert found.tolist() == pytest.approx(wanted)


def test_the_reference_point_is_the_mean_and_never_below_zero() -> None:
    reference = torch.tensor([-4.0, -4.0])
    assert reference_point(torch.tensor([-3.0, -2.0]), reference) == pytest.approx(1.5)
    assert reference_point(torch.tensor([-5.0, -6.0]), reference) == 0.0


def test_log_probabilities_are_summed_by_sequence() -> None:
    assert by_sequence(torch.tensor([-1.0, -2.0, -4.0]), [1, 2]).tolist() == [-1.0, -6.0]
