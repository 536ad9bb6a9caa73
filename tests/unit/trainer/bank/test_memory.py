"""What a pass holds in memory: a layer's activations at a time where layers are computed again, and within the estimate."""

from pathlib import Path
from typing import Any

import pytest
import torch

from services.trainer.bank import Bank, SlotSpec
from services.trainer.needs import MOST_STEP_TOKENS, architecture, joint_base_parts
from services.trainer.settings import Settings
from tests.unit.trainer.bank.peak import peak_bytes

TOKENS = 512


@pytest.fixture(scope="module")
def deep() -> Any:
    """A base of many layers."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=64,
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=12,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return LlamaForCausalLM(config).to(torch.bfloat16)


def test_recomputing_holds_one_layer_at_a_time_and_the_estimate_knows(deep: Any) -> None:
    bank, config = Bank(deep), deep.config.to_dict()
    slot = bank.open(SlotSpec(rank=4, alpha=8))
    measured, expected = [], []
    for recomputes in (False, True):
        measured.append(peak_bytes(bank, slot, TOKENS, recomputes=recomputes))
        parts = joint_base_parts(architecture(config), Settings(gradient_checkpointing=recomputes))
        expected.append(parts["activations of a step"] * TOKENS // MOST_STEP_TOKENS)
    assert measured[1] < measured[0] / 4
    for found, estimated in zip(measured, expected, strict=True):
        assert estimated / 2 < found < estimated


def test_longer_rows_take_larger_passes(base: Path) -> None:
    import json

    shape = architecture(json.loads((base / "config.json").read_text()))
    usual = joint_base_parts(shape, Settings())["activations of a step"]
    assert joint_base_parts(shape, Settings(max_row_tokens=MOST_STEP_TOKENS))["activations of a step"] == usual
    # However much a pass may hold, a step has no more rows.
    roomy = Settings(max_row_tokens=MOST_STEP_TOKENS // 8, batch_rows=8, micro_batch_tokens=1 << 20)
    assert joint_base_parts(shape, roomy)["activations of a step"] == usual
    longer = Settings(max_row_tokens=4 * MOST_STEP_TOKENS)
    assert joint_base_parts(shape, longer)["activations of a step"] == 4 * usual
