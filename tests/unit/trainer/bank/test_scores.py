"""Log-probabilities and their gradients are each row's own."""

import pytest
import torch
from torch import Tensor

from services.trainer.bank.scores import log_probs

ROWS, WIDTH = 33, 32


def scored(hidden: Tensor, following: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities, and the gradient of their sum."""
    hidden = hidden.clone().requires_grad_()
    found = log_probs(hidden, following, weight, None, trains=True)
    found.sum().backward()
    assert hidden.grad is not None
    return found.detach(), hidden.grad


@pytest.mark.parametrize("vocabulary", [256, 258, 290])
@pytest.mark.parametrize("broken", [0, 16, ROWS - 1])
def test_a_row_that_is_no_number_changes_no_bit_of_another(vocabulary: int, broken: int) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(ROWS, WIDTH, generator=generator).bfloat16()
    weight = torch.randn(vocabulary, WIDTH, generator=generator).bfloat16()
    following = torch.randint(vocabulary, (ROWS,), generator=generator)
    whole = scored(hidden, following, weight)
    hidden[broken] = float("nan")
    with_one = scored(hidden, following, weight)
    others = [row for row in range(ROWS) if row != broken]
    assert all(torch.equal(one[others], other[others]) for one, other in zip(whole, with_one, strict=True))
    assert with_one[0][broken].isnan()
