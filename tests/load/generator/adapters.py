"""Adapters of random weights: what a step costs does not depend on values, and what an answer says does."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoConfig

from services.generator.plugin.identity import IDENTITY_FILE, WEIGHTS_FILE, Identity

_SPREAD = 0.02
SEVEN = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class Recipe:
    """One adapter: ``modules`` are the last parts of the projections' names, ``spread`` is that of A's and B's numbers.

    ``alpha`` 0 stands for the rank, that is, for a scale of 1; ``layers`` 0 for all of the base's.
    """

    rank: int
    seed: int
    modules: tuple[str, ...] = SEVEN
    alpha: float = 0.0
    rslora: bool = False
    spread: float = _SPREAD
    layers: int = 0

    def config(self) -> dict[str, object]:
        """Its adapter_config.json."""
        return {
            "peft_type": "LORA",
            "r": self.rank,
            "lora_alpha": self.alpha or self.rank,
            "target_modules": list(self.modules),
            "use_rslora": self.rslora,
            "bias": "none",
            "task_type": "CAUSAL_LM",
        }


def sizes(base: Path) -> dict[str, tuple[int, int]]:
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


def tensors(base: Path, recipe: Recipe) -> dict[str, torch.Tensor]:
    """The adapter's matrices by their names in the file, in bfloat16."""
    generator = torch.Generator().manual_seed(recipe.seed)
    layers = recipe.layers or AutoConfig.from_pretrained(base).num_hidden_layers
    made = {}
    for layer in range(layers):
        for module, (inputs, outputs) in sizes(base).items():
            if module.partition(".")[2] not in recipe.modules:
                continue
            name = f"base_model.model.model.layers.{layer}.{module}"
            for side, shape in (("A", (recipe.rank, inputs)), ("B", (outputs, recipe.rank))):
                values = recipe.spread * torch.randn(shape, generator=generator)
                made[f"{name}.lora_{side}.weight"] = values.to(torch.bfloat16)
    return made


def write(base: Path, folder: Path, recipe: Recipe) -> Path:
    """Write an adapter for the model in ``base``, as the generator would have left it after checking; its folder."""
    folder.mkdir(parents=True)
    save_file(tensors(base, recipe), folder / WEIGHTS_FILE)
    (folder / "adapter_config.json").write_text(json.dumps(recipe.config()))
    digest = hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest()
    identity = Identity(f"sha256:{digest}", f"sha256:{digest}", recipe.rank)
    (folder / IDENTITY_FILE).write_text(identity.text())
    return folder


def files(folder: Path) -> dict[str, bytes]:
    """The files that a version of it has in the registry."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name.startswith("adapter_")}
