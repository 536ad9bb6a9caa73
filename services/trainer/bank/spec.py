"""What an adapter is: PEFT's LoRA settings, resolved against the linear layers of a base.

Invariant: a spec and a base name the same layers, ranks and scales that PEFT finds for the same settings.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from torch import nn

from services.trainer.peft_layout import MODULE_NAME, names_module

# Largest rank of one layer: as in the registry's checks, far above what any recipe asks for.
MAX_RANK = 512
# Where a layer stands: the first number between dots, as PEFT reads it.
_LAYER_INDEX = re.compile(r".*?\.[^.]*\.(?P<index>\d+)\.")


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
        if not _wanted(name, spec):
            continue
        rank = int(_of_pattern(spec.rank_pattern, name, spec.rank))
        alpha = float(_of_pattern(spec.alpha_pattern, name, spec.alpha))
        _check_rank(rank, name, spec)
        scale = alpha / math.sqrt(rank) if spec.rslora else alpha / rank
        found.append(Target(index, name, layer.in_features, layer.out_features, rank, scale))
    if not found:
        raise ValueError(f"no linear layer of the base is in layers {_listed(spec.layers)}; name layers that it has")
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


def module_names(layers: Iterable[str]) -> tuple[str, ...]:
    """Last parts of the layers' names, each once, sorted."""
    return tuple(sorted({name.rpartition(".")[2] for name in layers}))


def _check(spec: SlotSpec, layers: Mapping[str, nn.Linear]) -> None:
    if not 0.0 <= spec.dropout < 1.0:
        raise ValueError(f"dropout is {spec.dropout:g}; give 0 or more, and less than 1")
    if not (math.isfinite(spec.alpha) and spec.alpha > 0):
        raise ValueError(f"alpha is {spec.alpha:g}; give a number above 0")
    known = module_names(layers)
    if missing := sorted(
        target for target in spec.target_modules if not any(names_module(target, name) for name in layers)
    ):
        raise ValueError(f"the base has no linear layer {', '.join(missing)}; it has {', '.join(known)}")
    indices = {index for name in layers if (index := _layer_index(name)) is not None}
    if absent := sorted(set(spec.layers) - indices):
        raise ValueError(f"the base has no layer {_listed(absent)}; it has {min(indices)} to {max(indices)}")
    for pattern in (*spec.rank_pattern, *spec.alpha_pattern):
        if not MODULE_NAME.fullmatch(pattern):
            raise ValueError(f"the pattern {pattern} is no name of a layer; write the end of one, such as {known[0]}")
        if not any(names_module(pattern, name) for name in layers):
            raise ValueError(f"the pattern {pattern} fits no linear layer of the base; it has {', '.join(known)}")
    for pattern, alpha in spec.alpha_pattern.items():
        if not (math.isfinite(alpha) and alpha > 0):
            raise ValueError(f"alpha of {pattern} is {alpha:g}; give a number above 0")


def _check_rank(rank: int, name: str, spec: SlotSpec) -> None:
    if not 1 <= rank <= MAX_RANK:
        raise ValueError(f"the rank of {name} is {rank}; give 1 to {MAX_RANK}")
    if spec.initialisation is Initialisation.ORTHOGONAL and rank % 2:
        raise ValueError(f"the rank of {name} is {rank}; orthogonal initialisation needs an even one")


def _wanted(name: str, spec: SlotSpec) -> bool:
    if spec.layers and _layer_index(name) not in spec.layers:
        return False
    return not spec.target_modules or any(names_module(target, name) for target in spec.target_modules)


def _layer_index(name: str) -> int | None:
    match = _LAYER_INDEX.match(name)
    return int(match["index"]) if match else None


def _of_pattern(pattern: Mapping[str, float], name: str, default: float) -> float:
    return next((value for end, value in pattern.items() if names_module(end, name)), default)


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(str(number) for number in sorted(numbers))


def _whole(alpha: float) -> float:
    return int(alpha) if alpha == int(alpha) else alpha


def _plain(value: object) -> object:
    if isinstance(value, set | frozenset | tuple):
        return sorted(value)
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return getattr(value, "value", value)
