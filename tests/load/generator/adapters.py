"""Adapters of random weights on all seven projections of every layer: what a step costs does not depend on values."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoConfig

from services.generator.plugin.identity import IDENTITY_FILE, WEIGHTS_FILE, Identity

_SPREAD = 0.02


def _sizes(base: Path) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of each projection, by its path in a layer."""
    config = AutoConfig.from_pretrained(base)
    hidden, inner, width = config.hidden_size, config.intermediate_size, config.head_dim
    heads, pairs = config.num_attention_heads * width, config.num_key_value_heads * width
    return {
        "self_attn.q_proj": (hidden, heads),
        "self_attn.k_proj": (hidden, pairs),
        "self_attn.v_proj": (hidden, pairs),
        "self_attn.o_proj": (heads, hidden),
        "mlp.gate_proj": (hidden, inner),
        "mlp.up_proj": (hidden, inner),
        "mlp.down_proj": (inner, hidden),
    }


def write(base: Path, folder: Path, rank: int, seed: int) -> Path:
    """Write an adapter for the model in ``base``, as the generator would have left it after checking; its folder."""
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(seed)
    layers = AutoConfig.from_pretrained(base).num_hidden_layers
    tensors = {}
    for layer in range(layers):
        for module, (inputs, outputs) in _sizes(base).items():
            name = f"base_model.model.model.layers.{layer}.{module}"
            for side, shape in (("A", (rank, inputs)), ("B", (outputs, rank))):
                values = _SPREAD * torch.randn(shape, generator=generator)
                tensors[f"{name}.lora_{side}.weight"] = values.to(torch.bfloat16)
    save_file(tensors, folder / WEIGHTS_FILE)
    config = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": rank,
        "target_modules": [name.rpartition(".")[2] for name in _sizes(base)],
    }
    (folder / "adapter_config.json").write_text(json.dumps({**config, "bias": "none", "task_type": "CAUSAL_LM"}))
    digest = hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest()
    identity = Identity(f"sha256:{digest}", f"sha256:{digest}", rank)
    (folder / IDENTITY_FILE).write_text(identity.text())
    return folder
