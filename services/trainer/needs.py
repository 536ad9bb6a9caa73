"""What a joint job takes in memory, by arithmetic from its base's configuration, before anything is spent.

Invariant: the parts are said by name, so that a refusal shows its arithmetic.  What was measured stands beside the
constants.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.trainer.formulas import unjoinable
from services.trainer.modules import is_adapted, of_pattern
from services.trainer.peft_layout import names_module
from services.trainer.settings import Keep, Objective, Settings

# float32: the weight, both moments of AdamW, and the gradient while the job takes part in a step.
_BYTES_PER_TRAINED_PARAMETER = 16
# Python, torch and transformers loaded, before any weight: 0.55 GiB measured.
_PROCESS_BYTES = 600 * 1024**2
_FLOAT_BYTES, _HALF_BYTES = 4, 2
# Where a layer of the Llama kind has its linear layers.
_BLOCKS = {
    "q_proj": "self_attn",
    "k_proj": "self_attn",
    "v_proj": "self_attn",
    "o_proj": "self_attn",
    "gate_proj": "mlp",
    "up_proj": "mlp",
    "down_proj": "mlp",
}
# Held between forward and backward for one token in one layer, in units of the hidden and the intermediate size:
# inputs of the norms and products, queries, keys, values, gate, up and their product, in half precision and partly twice.
# Measured with SmolLM2-135M's shape: two thirds of what these make; the rest is what an allocator holds beside it.
_HELD_HIDDEN, _HELD_INTERMEDIATE = 16, 6
# Tokens that go through the base at once, over all jobs of a step; the process measures its own at start-up, up to this.
MOST_STEP_TOKENS = 2048
# Model types whose linear layers have the names that Llama's have: as transformers builds them.
_NAMED_AS_LLAMAS = frozenset(
    {
        "llama",
        "mistral",
        "qwen2",
        "qwen3",
        "gemma",
        "gemma2",
        "gemma3_text",
        "smollm3",
        "olmo",
        "olmo2",
        "granite",
        "helium",
    }
)


@dataclass(frozen=True, slots=True)
class Architecture:
    """A base's shape.  ``linears`` maps a linear layer's last name to [inputs, outputs]; each occurs once a layer.

    ``unjoinable`` is why no job can train jointly on it, empty where nothing is known to speak against it.
    """

    hidden_size: int
    intermediate_size: int
    layers: int
    vocabulary: int
    tied: bool
    linears: Mapping[str, tuple[int, int]]
    model_type: str = ""
    unjoinable: str = ""

    @property
    def layer_names(self) -> Sequence[str]:
        """The linear layers that adapters may be on, by their names in the model; empty where only loading it tells."""
        if self.model_type not in _NAMED_AS_LLAMAS:
            return ()
        return [module for module, _ in _modules(self)]

    @property
    def parameters(self) -> int:
        """All weights, norms aside."""
        each = sum(inputs * outputs for inputs, outputs in self.linears.values())
        return self.layers * each + self.vocabulary * self.hidden_size * (1 if self.tied else 2)


def architecture(config: Mapping[str, Any]) -> Architecture:
    """Read the shape out of a base's ``config.json``, of the Llama kind.

    Another kind's linear layers have other names; for memory what counts is their size, which is about the same.
    """
    hidden, inner = int(config["hidden_size"]), int(config.get("intermediate_size") or 4 * config["hidden_size"])
    heads = int(config.get("num_attention_heads") or 1)
    width = int(config.get("head_dim") or hidden // heads)
    kept = int(config.get("num_key_value_heads") or heads) * width
    queries = heads * width
    return Architecture(
        hidden_size=hidden,
        intermediate_size=inner,
        layers=int(config["num_hidden_layers"]),
        vocabulary=int(config["vocab_size"]),
        tied=bool(config.get("tie_word_embeddings", True)),
        linears={
            "q_proj": (hidden, queries),
            "k_proj": (hidden, kept),
            "v_proj": (hidden, kept),
            "o_proj": (queries, hidden),
            "gate_proj": (hidden, inner),
            "up_proj": (hidden, inner),
            "down_proj": (inner, hidden),
        },
        model_type=str(config.get("model_type") or ""),
        unjoinable=unjoinable(config),
    )


@dataclass(frozen=True, slots=True)
class Adapted:
    """A linear layer that settings adapt, with the rank that they give it."""

    inputs: int
    outputs: int
    rank: int


def adapted(base: Architecture, settings: Settings) -> Iterator[Adapted]:
    """The layers that settings adapt, found as the bank and PEFT find them: by a name, or the end of one.

    A target that fits no layer may be one of another kind of base, whose names are known once it is loaded: then all
    layers count, since what is not known must not pass for nothing.
    """
    names = [module for module, _ in _modules(base)]
    known = all(any(names_module(target, module) for module in names) for target in settings.target_modules)
    targets = settings.target_modules if known else ()
    ranks = dict(settings.rank_pattern)
    for module, (inputs, outputs) in _modules(base):
        if is_adapted(module, targets, settings.exclude_modules, settings.layers):
            yield Adapted(inputs, outputs, of_pattern(ranks, module, settings.rank))


def _modules(base: Architecture) -> Iterator[tuple[str, tuple[int, int]]]:
    """The whole name and the size of every linear layer."""
    for layer in range(base.layers):
        for name, size in base.linears.items():
            yield f"model.layers.{layer}.{_BLOCKS[name]}.{name}", size


def adapter_parameters(base: Architecture, settings: Settings) -> int:
    """Trained parameters of an adapter: rank x (inputs + outputs) of every linear layer that is adapted."""
    return sum(layer.rank * (layer.inputs + layer.outputs) for layer in adapted(base, settings))


def keeps_best(settings: Settings, *, validation_dataset: bool) -> bool:
    """Whether the job holds a copy of the best weights so far: what is evaluated has some that are best."""
    return settings.keep is Keep.BEST and (validation_dataset or settings.validation_ratio > 0)


def joint_job_parts(base: Architecture, settings: Settings, *, validation_dataset: bool = False) -> dict[str, int]:
    """Bytes of one job on the bank: its own, and those that only one of the jobs needs at a time are not among them.

    ``validation_dataset`` says whether one is named.
    """
    trained = adapter_parameters(base, settings)
    best = trained * _FLOAT_BYTES if keeps_best(settings, validation_dataset=validation_dataset) else 0
    parts = {"adapter, moments and gradient": trained * _BYTES_PER_TRAINED_PARAMETER, "best adapter so far": best}
    return {name: size for name, size in parts.items() if size}


def joint_base_parts(base: Architecture, settings: Settings) -> dict[str, int]:
    """Bytes that the process of a base holds for jobs of these settings, once for all of them.

    Jobs with others share all of it but the activations: passes follow one another, so the largest counts.
    """
    layer = _HALF_BYTES * (_HELD_HIDDEN * base.hidden_size + _HELD_INTERMEDIATE * base.intermediate_size)
    # Recomputed: the layer that is computed again, and what enters each of the others.
    recomputed = layer + base.layers * base.hidden_size * _HALF_BYTES
    token = recomputed if settings.gradient_checkpointing else base.layers * layer
    return {
        "base": base.parameters * _HALF_BYTES,
        "activations of a step": max(MOST_STEP_TOKENS, pass_tokens(settings)) * token,
        "process": _PROCESS_BYTES,
    }


def pass_tokens(settings: Settings) -> int:
    """Most tokens that a job of these settings takes through its base at once, to learn from them."""
    # A pair is two rows.
    row_tokens = settings.max_row_tokens * (2 if settings.objective is Objective.DPO else 1)
    # One row always goes through whole, and a pass holds no more than a step's rows.
    return max(row_tokens, min(settings.micro_batch_tokens, settings.batch_rows * row_tokens))
