"""Attention inside each sequence of a pass: native for short ones, torch's for long ones, the same to rounding."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from services.trainer.bank import native
from services.trainer.bank.attention import per_sequence_attention
from services.trainer.bank.passes import SHORT_TOKENS, Segment, packed
from services.trainer.data.examples import Example

LENGTHS = (1, 17, 32, 128, 9, 200)


def attended(
    kernels: native.Kernels | None, dtype: torch.dtype, heads: tuple[int, int], size: int, window: int | None
) -> tuple[Tensor, ...]:
    """Output and the gradients of query, key and value."""
    rows = [Example((1,) * length, (True,) * length) for length in LENGTHS]
    running = packed([Segment(None, rows, False)], kernels)
    generator = torch.Generator().manual_seed(1)
    total = sum(LENGTHS)
    inputs = [
        torch.randn(1, total, count, size, generator=generator).to(dtype).transpose(1, 2).requires_grad_()
        for count in (heads[0], heads[1], heads[1])
    ]
    query, key, value = inputs
    output, _ = per_sequence_attention(
        nn.Identity(), query, key, value, None, scaling=0.3, sliding_window=window, running_pass=running
    )
    gradients = torch.autograd.grad(output, inputs, torch.randn(output.shape, generator=generator).to(dtype))
    return output.detach(), *gradients


def expected(dtype: torch.dtype, heads: tuple[int, int], size: int, window: int | None) -> tuple[Tensor, ...]:
    """The same by the formula, in fp64."""
    generator = torch.Generator().manual_seed(1)
    total = sum(LENGTHS)
    inputs = [
        torch.randn(1, total, count, size, generator=generator).to(dtype).double().transpose(1, 2).requires_grad_()
        for count in (heads[0], heads[1], heads[1])
    ]
    of_sequence = torch.repeat_interleave(torch.arange(len(LENGTHS)), torch.tensor(LENGTHS))
    back = torch.arange(total)[:, None] - torch.arange(total)[None, :]
    seen = (of_sequence[:, None] == of_sequence[None, :]) & (back >= 0) & (back < (window or total))
    query, key, value = inputs
    key, value = (tensor.repeat_interleave(heads[0] // heads[1], dim=1) for tensor in (key, value))
    scores = (query @ key.transpose(2, 3) * 0.3).masked_fill(~seen, -torch.inf)
    output = (functional.softmax(scores, dim=-1) @ value).transpose(1, 2)
    incoming = torch.randn(output.shape, generator=generator).to(dtype).double()
    return output.detach(), *torch.autograd.grad(output, inputs, incoming)


@pytest.mark.parametrize("window", [None, 20])
@pytest.mark.parametrize(("heads", "size"), [((9, 3), 64), ((4, 4), 10)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("uses_kernels", [True, False])
def test_attention_is_the_formulas(
    dtype: torch.dtype, heads: tuple[int, int], size: int, window: int | None, uses_kernels: bool
) -> None:
    kernels = native.kernels() if uses_kernels else None
    assert kernels is not None or not uses_kernels
    bound = 2e-2 if dtype is torch.bfloat16 else 2e-5
    found = attended(kernels, dtype, heads, size, window)
    for tensor, wanted in zip(found, expected(dtype, heads, size, window), strict=True):
        assert float((tensor.double() - wanted).abs().max()) <= bound * float(wanted.abs().max())


def test_a_sequence_that_is_not_finite_stays_by_itself() -> None:
    kernels = native.kernels()
    rows = [Example((1,) * length, (True,) * length) for length in (40, 40, 40)]
    running = packed([Segment(None, rows, False)], kernels)
    assert SHORT_TOKENS >= 40
    query, key, value = (torch.randn(1, 3, 120, 16) for _ in range(3))
    clean, _ = per_sequence_attention(nn.Identity(), query, key, value, None, running_pass=running)
    for tensor, planted in ((query, torch.nan), (key, torch.inf), (value, torch.nan)):
        tensor[:, :, 50] = planted
    broken, _ = per_sequence_attention(nn.Identity(), query, key, value, None, running_pass=running)
    assert torch.equal(broken[:, :40], clean[:, :40])
    assert torch.equal(broken[:, 80:], clean[:, 80:])
    assert not bool(broken[:, 79].isfinite().all())


def test_sinks_are_refused_and_not_left_out() -> None:
    running = packed([Segment(None, [Example((1,) * 4, (True,) * 4)], False)], None)
    query, key, value = (torch.randn(1, 3, 4, 16) for _ in range(3))
    with pytest.raises(ValueError, match=r"\bsinks\b"):
        per_sequence_attention(nn.Identity(), query, key, value, None, s_aux=torch.zeros(3), running_pass=running)
