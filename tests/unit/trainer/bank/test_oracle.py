"""The bank learns what plain PEFT and torch's AdamW learn, so that joint and solo cannot both be wrong."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from services.trainer.bank import Bank, Segment, SlotSpec, Update
from services.trainer.data.examples import Example

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


def model(base: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(str(base), dtype=torch.float32)


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


def by_peft(base: Path, first: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Tensor]:
    """The adapter that plain PEFT trains from the same beginning."""
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    adapted = get_peft_model(model(base), LoraConfig(**{**config, "inference_mode": False}))
    problems = set_peft_model_state_dict(adapted, first)
    assert not problems.unexpected_keys
    trained = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=DECAY)
    for rows in batches():
        width = max(len(row.tokens) for row in rows)
        tokens = torch.tensor([[*row.tokens, *[0] * (width - len(row.tokens))] for row in rows])
        said = torch.tensor([[*row.supervised, *[False] * (width - len(row.tokens))] for row in rows])
        mask = torch.tensor([[index < len(row.tokens) for index in range(width)] for row in rows])
        adapted(
            input_ids=tokens,
            attention_mask=mask.long(),
            labels=torch.where(said, tokens, -100),
            use_cache=False,
        ).loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, CLIP)
        optimizer.step()
        optimizer.zero_grad()
    found: dict[str, Tensor] = get_peft_model_state_dict(adapted)
    return found


@pytest.mark.parametrize("name", SPECS)
def test_twenty_steps_on_the_bank_are_twenty_steps_of_peft(name: str, base: Path) -> None:
    first, found, config = by_the_bank(base, SPECS[name])
    expected = by_peft(base, first, config)
    assert found.keys() == expected.keys()
    away = sum(float((found[key] - expected[key]).square().sum()) for key in expected) ** 0.5
    length = sum(float(tensor.square().sum()) for tensor in expected.values()) ** 0.5
    assert away / length <= 1e-4
    # The measure can see a step: the adapters have moved by far more than the bound.
    moved = sum(float((found[key] - first[key]).square().sum()) for key in expected) ** 0.5
    assert moved / length > 1e-2
