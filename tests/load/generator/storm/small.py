"""A random base that computes in milliseconds: what faults are planted over, since each costs a storm."""

from __future__ import annotations

from pathlib import Path

from tests.unit.trainer.tiny import make_base

# Large enough that random weights say different things with confidence.
_SPREAD = 0.12


def small_base(folder: Path) -> Path:
    """Write a random four-layer Llama over bytes, of a shape that the CPU's attention takes; the same every time."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    make_base(folder)
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=258,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=512,
        bos_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=True,
        initializer_range=_SPREAD,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder
