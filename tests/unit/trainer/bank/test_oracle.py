"""The bank learns what plain PEFT and torch's AdamW learn, so that joint and solo cannot both be wrong."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from services.trainer.bank import Bank, Segment, SlotSpec, Update
from services.trainer.data.examples import Example
from services.trainer.formulas import attention_of
from services.trainer.peft_layout import adapter_weight

STEPS = 20
RATE, DECAY, CLIP = 1e-3, 0.01, 0.5
SPECS = {
    "lora": SlotSpec(rank=8, alpha=16, seed=1),
    "rslora on some modules": SlotSpec(
        rank=6, alpha=8, rslora=True, seed=2, target_modules=("q_proj", "v_proj", "down_proj")
    ),
    "one layer with ranks and alphas of its own": SlotSpec(
        rank=4, alpha=8, seed=3, layers=(1,), rank_pattern={"q_proj": 12, "mlp.up_proj": 1}, alpha_pattern={"k_proj": 3}
    ),
}


def model(base: Path, dtype: torch.dtype = torch.float32) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    how = attention_of(AutoConfig.from_pretrained(str(base)))
    return AutoModelForCausalLM.from_pretrained(str(base), dtype=dtype, **how)


def batches() -> list[list[Example]]:
    generator = torch.Generator().manual_seed(5)
    found = []
    for _ in range(STEPS):
        rows = []
        for length in (9, 31, 70):
            tokens = torch.randint(0, 256, (length,), generator=generator).tolist()
            rows.append(Example(tuple(tokens), tuple(index > 3 for index in range(length))))
        found.append(rows)
    return found


def by_the_bank(base: Path, spec: SlotSpec) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    """The adapter at the beginning and at the end, and its configuration."""
    bank = Bank(model(base))
    slot = bank.open(spec)
    first = slot.adapter()
    for rows in batches():
        scores = bank.score([Segment(slot, rows, True)])
        bank.backward([-scores[0].log_probs.mean()])
        bank.update([Update(slot, RATE, weight_decay=DECAY, max_gradient_norm=CLIP)])
    return first, slot.adapter(), bank.adapter_config(slot)


def adapted_by_peft(
    base: Path, first: dict[str, Tensor], config: dict[str, Any], dtype: torch.dtype = torch.float32
) -> Any:
    """Plain PEFT's model, base and adapter in `dtype`, with these weights."""
    from peft import LoraConfig, get_peft_model, set_peft_model_state_dict

    adapted = get_peft_model(model(base, dtype), LoraConfig(**{**config, "inference_mode": False})).to(dtype)
    problems = set_peft_model_state_dict(adapted, {name: tensor.to(dtype) for name, tensor in first.items()})
    assert not problems.unexpected_keys
    return adapted


def loss_by_transformers(adapted: Any, rows: list[Example]) -> Any:
    """Of a padded batch, with the mask and the labels that transformers knows."""
    width = max(len(row.tokens) for row in rows)
    tokens = torch.tensor([[*row.tokens, *[0] * (width - len(row.tokens))] for row in rows])
    said = torch.tensor([[*row.supervised, *[False] * (width - len(row.tokens))] for row in rows])
    mask = torch.tensor([[index < len(row.tokens) for index in range(width)] for row in rows])
    labels = torch.where(said, tokens, -100)
    return adapted(input_ids=tokens, attention_mask=mask.long(), labels=labels, use_cache=False).loss


def by_peft(base: Path, first: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Tensor]:
    """The adapter that plain PEFT trains from the same beginning."""
    from peft import get_peft_model_state_dict

    adapted = adapted_by_peft(base, first, config)
    trained = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=DECAY)
    for rows in batches():
        loss_by_transformers(adapted, rows).backward()
        torch.nn.utils.clip_grad_norm_(trained, CLIP)
        optimizer.step()
        optimizer.zero_grad()
    found: dict[str, Tensor] = get_peft_model_state_dict(adapted)
    return found


def gradient_by_the_bank(base: Path, spec: SlotSpec, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of the first batch's loss, at these weights."""
    bank = Bank(model(base))
    slot = bank.open(spec)
    slot.load_adapter(weights)
    bank.backward([-bank.score([Segment(slot, batches()[0], True)])[0].log_probs.mean()])
    found: dict[str, Tensor] = {}
    for target in slot.targets:
        down, up = slot.matrices(target.module, slot.gradients())
        found |= {adapter_weight(target.name, "A"): down, adapter_weight(target.name, "B"): up.t()}
    return found


def gradient_by_peft(
    base: Path, weights: dict[str, Tensor], config: dict[str, Any], dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """The same by plain PEFT, all of it in `dtype`."""
    adapted = adapted_by_peft(base, weights, config, dtype)
    loss_by_transformers(adapted, batches()[0]).backward()
    return {
        name.replace(".default", ""): parameter.grad
        for name, parameter in adapted.named_parameters()
        if parameter.requires_grad
    }


def distance(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Of all tensors together, over the length of the expected ones."""
    assert found.keys() == expected.keys()
    away = sum(float((found[key].double() - expected[key].double()).square().sum()) for key in expected)
    return math.sqrt(away / sum(float(tensor.double().square().sum()) for tensor in expected.values()))


@pytest.mark.parametrize("name", SPECS)
def test_twenty_steps_on_the_bank_are_twenty_steps_of_peft(name: str, base: Path) -> None:
    first, found, config = by_the_bank(base, SPECS[name])
    expected = by_peft(base, first, config)
    assert distance(found, expected) <= 1e-4
    # The measure can see a step: the adapters have moved by far more than the bound.
    assert distance(first, expected) > 1e-2


@pytest.mark.parametrize("name", SPECS)
def test_a_gradient_is_as_near_to_the_exact_one_as_pefts(name: str, base: Path) -> None:
    _, trained, config = by_the_bank(base, SPECS[name])
    exact = gradient_by_peft(base, trained, config, torch.float64)
    by_bank = distance(gradient_by_the_bank(base, SPECS[name], trained), exact)
    assert by_bank <= 2 * distance(gradient_by_peft(base, trained, config), exact)
    assert by_bank > 0
