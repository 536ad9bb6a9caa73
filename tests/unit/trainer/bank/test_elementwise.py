"""An activation's bits do not depend on how many rows a pass has, nor on how many threads share them."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.nn import functional

from services.trainer.bank import Bank, Segment, SlotSpec, Update
from services.trainer.bank.elementwise import filled_elements, in_whole_vectors
from services.trainer.data.examples import Example

WIDTH = 200


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """So many threads of torch's for the time of a test."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def gelu(x: torch.Tensor) -> torch.Tensor:
    return functional.gelu(x, approximate="tanh")


@pytest.mark.parametrize("function", [functional.silu, gelu, torch.sigmoid])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_has_the_same_bits_among_any_number_of_rows(function: Any, dtype: torch.dtype, threads: int) -> None:
    rows = (torch.randn(600, WIDTH + threads, generator=torch.Generator().manual_seed(0)) * 4).to(dtype)

    def forward_and_back(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        taken = rows[:count].clone().requires_grad_()
        found = in_whole_vectors(function, taken)
        (gradient,) = torch.autograd.grad(found, taken, taken.detach())
        return found.detach(), gradient

    whole, whole_gradient = forward_and_back(len(rows))
    for count in (1, 33, 150, 201, 333, 500):
        found, gradient = forward_and_back(count)
        assert torch.equal(found, whole[:count])
        assert torch.equal(gradient, whole_gradient[:count])


def test_what_divides_already_is_not_filled_up() -> None:
    assert filled_elements(1536 * 100, 2) == 1536 * 100
    assert filled_elements(1, 16) == 64


def test_a_job_ends_with_its_own_bits_on_a_base_whose_activation_torch_computes_in_two_ways(threads: int) -> None:
    alone = weights_after_training([])
    assert all(torch.equal(weights_after_training(company), alone) for company in ([51], [52, 107], [150, 133]))


def weights_after_training(company: list[int]) -> torch.Tensor:
    """The weights of a job on sequences of 150 tokens, after training beside jobs with sequences of these lengths."""
    bank = Bank(base())
    slots = [bank.open(SlotSpec(rank=4, alpha=8, seed=seed)) for seed in range(1 + len(company))]
    for step in range(6):
        segments = [
            Segment(slot, [sequence(length, 10 * step + place)], keeps_gradient=True)
            for place, (slot, length) in enumerate(zip(slots, [150, *company], strict=True))
        ]
        bank.backward([-scores.log_probs.mean() for scores in bank.score(segments)])
        bank.update([Update(slot, learning_rate=1e-2) for slot in slots])
    return slots[0].weights.clone()


def sequence(length: int, seed: int) -> Example:
    tokens = torch.randint(0, 64, (length,), generator=torch.Generator().manual_seed(seed)).tolist()
    return Example(tuple(tokens), (True,) * length)


def base() -> Any:
    """A random base as Gemma is one: GELU's tanh form, here over a width that no vector divides."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        hidden_act="gelu_pytorch_tanh",
    )
    model = LlamaForCausalLM(config)
    for layer in model.model.layers:
        # Large enough that the function is not a straight line.
        layer.mlp.gate_proj.weight.data *= 60
    return model.to(torch.bfloat16)
