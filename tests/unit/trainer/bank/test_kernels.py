"""Native code computes what torch computes, to rounding, and the same bits on any number of threads."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from services.trainer.bank import native, updates
from services.trainer.bank.lora import adapted_linear
from services.trainer.bank.passes import Pass, Segment, dropout_mask, packed
from services.trainer.bank.slot import GradientPool, Slot
from services.trainer.bank.spec import SlotSpec, targets
from services.trainer.bank.updates import Update
from services.trainer.data.examples import Example

# Widths that are no multiple of sixteen, ranks that are no multiple of four, rows that fill no block.
SHAPES = [(576, 192), (33, 70), (300, 15)]
LENGTHS = (1, 33, 70, 7)
RANKS = (8, 1, 6, 31)
DTYPES = (torch.bfloat16, torch.float32)


@pytest.fixture(scope="module")
def kernels() -> native.Kernels:
    found = native.kernels()
    assert found is not None, "install a C++ compiler: sudo apt-get install g++"
    return found


def slots(layer: nn.Linear, *, dropout: float) -> list[Slot]:
    """Slots of different ranks on one layer, with weights that are not as they began."""
    found = []
    for number, rank in enumerate(RANKS):
        spec = SlotSpec(rank=rank, alpha=2.0 * rank, dropout=dropout, seed=number)
        slot = Slot(
            spec,
            targets(spec, {"model.layers.0.proj": layer}),
            layers=1,
            pool=GradientPool(),
            device=torch.device("cpu"),
        )
        slot.weights.normal_(generator=torch.Generator().manual_seed(number))
        found.append(slot)
    return found


def computed(
    kernels: native.Kernels | None, shape: tuple[int, int], dtype: torch.dtype, dropout: float
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Output and input gradient of a layer in a pass, and its slots' gradients; the last segment is evaluated."""
    generator = torch.Generator().manual_seed(3)
    layer = nn.Linear(*shape, bias=True)
    weight = torch.randn(shape[1], shape[0], generator=generator).to(dtype)
    bias = torch.randn(shape[1], generator=generator).to(dtype)
    held = slots(layer, dropout=dropout)
    rows = [Example((1,) * length, (True,) * length) for length in LENGTHS]
    running: Pass = packed(
        [Segment(slot, [row], slot is not held[-1]) for slot, row in zip(held, rows, strict=True)], kernels
    )
    x = torch.randn(1, running.tokens.shape[1], shape[0], generator=generator).to(dtype).requires_grad_()
    output = adapted_linear(x, weight, bias, 0, running)
    output.backward(torch.randn(output.shape, generator=generator).to(dtype))
    assert x.grad is not None
    assert held[-1].gradient is None
    return output.detach(), x.grad, [slot.gradients() for slot in held[:-1]]


def close(found: Tensor, expected: Tensor, dtype: torch.dtype) -> bool:
    """Equal to the rounding of the type, measured against the largest number."""
    bound = 1e-2 if dtype is torch.bfloat16 else 1e-5
    return bool(((found - expected).abs().max() <= bound * expected.abs().max()).item())


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_layer_is_the_same_in_native_code_and_in_torch(
    kernels: native.Kernels, shape: tuple[int, int], dtype: torch.dtype, dropout: float
) -> None:
    output, of_x, gradients = computed(kernels, shape, dtype, dropout)
    expected_output, expected_of_x, expected_gradients = computed(None, shape, dtype, dropout)
    assert close(output, expected_output, dtype)
    assert close(of_x, expected_of_x, dtype)
    for found, expected in zip(gradients, expected_gradients, strict=True):
        # Sums of the same fp32 products in another order: no rounding to the base's type.
        assert close(found, expected, torch.float32)


def test_a_layer_has_the_same_bits_on_any_number_of_threads(kernels: native.Kernels) -> None:
    found: list[Any] = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        output, of_x, gradients = computed(kernels, SHAPES[0], torch.float32, 0.3)
        # The base's own products are torch's: equal here on any number as well.
        found.append((output, of_x, *gradients))
    torch.set_num_threads(1)
    for other in found[1:]:
        assert all(torch.equal(first, second) for first, second in zip(found[0], other, strict=True))


def test_dropout_keeps_the_share_that_it_should_and_no_two_layers_alike() -> None:
    slot = slots(nn.Linear(64, 64), dropout=0.3)[0]
    running = packed([Segment(slot, [Example((1,) * 500, (True,) * 500)], True)], None)
    first, second = (dropout_mask(running.adapted[0], module, 64) for module in (0, 1))
    for mask in (first, second):
        assert float((mask > 0).float().mean()) == pytest.approx(0.7, abs=0.01)
        assert float(mask.max()) == pytest.approx(1 / 0.7)
    assert float(((first > 0) == (second > 0)).float().mean()) == pytest.approx(0.7**2 + 0.3**2, abs=0.01)


@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_steps_are_those_of_torchs_adamw(kernels: native.Kernels, clip: float) -> None:
    native_slot, torch_slot = (slots(nn.Linear(601, 97), dropout=0.0)[2] for _ in range(2))
    plain = native_slot.weights.clone().requires_grad_()
    optimizer = torch.optim.AdamW([plain], lr=1e-2, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1)
    generator = torch.Generator().manual_seed(1)
    for _ in range(5):
        gradient = torch.randn(plain.shape, generator=generator)
        plain.grad = gradient.clone()
        norm = float(torch.nn.utils.clip_grad_norm_([plain], clip or math.inf))
        optimizer.step()
        for slot, used in ((native_slot, kernels), (torch_slot, None)):
            slot.gradients().copy_(gradient)
            update = Update(slot, 1e-2, 0.8, 0.95, 1e-6, 0.1, max_gradient_norm=clip)
            assert updates.apply(update, used) == pytest.approx(norm, rel=1e-5)
    for slot in (native_slot, torch_slot):
        assert torch.allclose(slot.weights, plain.detach(), rtol=1e-5, atol=1e-6)
        # What is given back holds zeros.
        assert not bool(slot.gradients().any())


def test_the_whole_bank_learns_the_same_without_native_code(base: Path) -> None:
    from transformers import AutoModelForCausalLM

    from services.trainer.bank import Bank
    from tests.unit.trainer.bank import cast

    found = []
    for uses_kernels in (True, False):
        bank = Bank(AutoModelForCausalLM.from_pretrained(str(base), dtype=torch.float32), uses_kernels=uses_kernels)
        assert bank.is_native == uses_kernels
        running = [cast.start(bank, cast.JOBS[name]) for name in ("plain", "dropping", "long")]
        for _ in range(3):
            cast.step(bank, running, [])
        found.append([each.slot.weights for each in running])
    for with_kernels, without in zip(*found, strict=True):
        assert torch.allclose(with_kernels, without, atol=1e-4)
