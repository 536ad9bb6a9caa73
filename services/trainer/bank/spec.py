"""What an adapter is: PEFT's LoRA settings, resolved against the linear layers of a base.

Invariant: a spec and a base name the same layers, ranks and scales that PEFT finds for the same settings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from torch import nn

from services.trainer.modules import (
    is_adapted,
    layer_indices,
    listed,
    of_pattern,
    require_layers,
    require_named,
)

# Largest rank of one layer: as in the registry's checks, far above what any recipe asks for.
MAX_RANK = 512


class Initialisation(StrEnum):
    """How A and B begin.  Those that change the base (PiSSA, OLoRA, LoftQ) cannot share it, and are not here."""

    # A uniform by Kaiming, B zero: PEFT's default, and the first step starts from the base itself.
    KAIMING = "kaiming"
    # A normal with deviation 1/rank, B zero.
    GAUSSIAN = "gaussian"
    # A and B random with B A = 0: both learn from the first step.  Ranks must be even.
    ORTHOGONAL = "orthogonal"


@dataclass(frozen=True, slots=True)
class SlotSpec:
    """An adapter's settings.

    `target_modules` are last parts of names (or whole names), empty for all linear layers; `layers` are indices, empty
    for all; the patterns give single layers a rank or an alpha by the end of their name, the first that fits counts.
    """

    rank: int
    alpha: float
    rslora: bool = False
    dropout: float = 0.0
    target_modules: tuple[str, ...] = ()
    layers: tuple[int, ...] = ()
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    initialisation: Initialisation = Initialisation.KAIMING
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Target:
    """One linear layer as a slot adapts it.  `module` is its index in the bank's list of linear layers."""

    module: int
    name: str
    inputs: int
    outputs: int
    rank: int
    scale: float

    @property
    def parameters(self) -> int:
        """Trained numbers: A [rank, inputs] and B [outputs, rank]."""
        return self.rank * (self.inputs + self.outputs)


def linear_layers(base: Any) -> dict[str, nn.Linear]:
    """All linear layers of `base` that may be adapted, by name, in the model's order: all but the output head."""
    head = base.get_output_embeddings()
    return {
        name: module for name, module in base.named_modules() if isinstance(module, nn.Linear) and module is not head
    }


def targets(spec: SlotSpec, layers: Mapping[str, nn.Linear]) -> tuple[Target, ...]:
    """The layers that `spec` adapts, in the base's order.  Raises ValueError, with a sentence, for what does not fit."""
    _check(spec, layers)
    found = []
    for index, (name, layer) in enumerate(layers.items()):
        if not is_adapted(name, spec.target_modules, (), spec.layers):
            continue
        rank = int(of_pattern(spec.rank_pattern, name, spec.rank))
        alpha = float(of_pattern(spec.alpha_pattern, name, spec.alpha))
        _check_rank(rank, name, spec)
        scale = alpha / math.sqrt(rank) if spec.rslora else alpha / rank
        found.append(Target(index, name, layer.in_features, layer.out_features, rank, scale))
    if not found:
        raise ValueError(f"no linear layer of the base is in layers {listed(spec.layers)}; name layers that it has")
    return tuple(found)


def adapter_config(spec: SlotSpec, base_name: str) -> dict[str, Any]:
    """PEFT's adapter_config for `spec`, as plain JSON values."""
    from peft import LoraConfig

    config = LoraConfig(
        r=spec.rank,
        lora_alpha=_whole(spec.alpha),
        target_modules=sorted(spec.target_modules) or None,
        lora_dropout=spec.dropout,
        use_rslora=spec.rslora,
        layers_to_transform=sorted(spec.layers) or None,
        rank_pattern=dict(spec.rank_pattern),
        alpha_pattern={name: _whole(alpha) for name, alpha in spec.alpha_pattern.items()},
        bias="none",
        task_type="CAUSAL_LM",
        init_lora_weights=True,
    ).to_dict()
    config["base_model_name_or_path"] = base_name
    config["inference_mode"] = True
    return {name: _plain(value) for name, value in config.items()}


def _check(spec: SlotSpec, layers: Mapping[str, nn.Linear]) -> None:
    if not 0.0 <= spec.dropout < 1.0:
        raise ValueError(f"dropout is {spec.dropout:g}; give 0 or more, and less than 1")
    if not (math.isfinite(spec.alpha) and spec.alpha > 0):
        raise ValueError(f"alpha is {spec.alpha:g}; give a number above 0")
    patterns = {"rank_pattern": spec.rank_pattern, "alpha_pattern": spec.alpha_pattern}
    require_named(layers, targets=spec.target_modules, patterns=patterns)
    require_layers(spec.layers, layer_indices(layers))
    for pattern, alpha in spec.alpha_pattern.items():
        if not (math.isfinite(alpha) and alpha > 0):
            raise ValueError(f"alpha of {pattern} is {alpha:g}; give a number above 0")


def _check_rank(rank: int, name: str, spec: SlotSpec) -> None:
    if not 1 <= rank <= MAX_RANK:
        raise ValueError(f"the rank of {name} is {rank}; give 1 to {MAX_RANK}")
    if spec.initialisation is Initialisation.ORTHOGONAL and rank % 2:
        raise ValueError(f"the rank of {name} is {rank}; orthogonal initialisation needs an even one")


def _whole(alpha: float) -> float:
    return int(alpha) if alpha == int(alpha) else alpha


def _plain(value: object) -> object:
    if isinstance(value, set | frozenset | tuple):
        return sorted(value)
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return getattr(value, "value", value)
