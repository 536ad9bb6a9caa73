"""What some bases compute beside the transformer that all have in common, by their configuration alone.

Invariant: the bank computes what transformers does for a base, or says that it does not; and as far as the configuration
tells, that is said when a job is ordered.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_FINAL_CAP, _ATTENTION_CAP = "final_logit_softcapping", "attn_logit_softcapping"
_DIVISOR, _FACTOR = "logits_scaling", "logit_scale"
# Which of these settings is known to mean what for a model type.  One of the same name may mean another thing elsewhere:
# some divide by `logits_scaling`, and some multiply.
_KNOWN: Mapping[str, frozenset[str]] = {
    "granite": frozenset({_DIVISOR}),
    "cohere": frozenset({_FACTOR}),
    "cohere2": frozenset({_FACTOR}),
    "gemma2": frozenset({_FINAL_CAP, _ATTENTION_CAP}),
    "gemma3_text": frozenset({_FINAL_CAP}),
}

# Kinds of decoders whose attention, or what they have in its place, does not go through transformers' `AttentionInterface`.
_OWN_ATTENTION = frozenset(
    {
        "bamba",
        "biogpt",
        "bloom",
        "codegen",
        "falcon",
        "falcon_h1",
        "falcon_mamba",
        "gpt_neo",
        "gptj",
        "jamba",
        "kimi_linear",
        "mamba",
        "mamba2",
        "mpt",
        "nemotron_h",
        "olmo_hybrid",
        "qwen3_5",
        "qwen3_5_moe",
        "qwen3_5_moe_text",
        "qwen3_5_text",
        "qwen3_next",
        "rwkv",
        "stablelm",
        "xglm",
        "xlstm",
        "zamba",
        "zamba2",
    }
)

# Kinds whose softmax has one score more for each head, which it was trained with (sinks).
_SINKS = frozenset({"deepseek_v4", "gpt_oss", "granite_swa", "granitemoe_swa", "hy_v4", "mimo_v2_flash"})


@dataclass(frozen=True, slots=True)
class Logits:
    """How a token's logit comes from the product z of hidden state and output weights: scale z, or cap tanh(scale z / cap)."""

    scale: float = 1.0
    cap: float | None = None


def logits_of(config: Mapping[str, Any]) -> Logits:
    """What the configuration of a base that is not `unjoinable` says of its logits."""
    return Logits((config.get(_FACTOR) or 1.0) / (config.get(_DIVISOR) or 1.0), config.get(_FINAL_CAP))


def attention_of(config: Any) -> dict[str, str]:
    """What to load a base of this transformers `config` with, so that its attention is computed as it says.

    Faster implementations leave a cap on attention's scores out, without a word.
    """
    capped = getattr(config.get_text_config(), _ATTENTION_CAP, None) is not None
    return {"attn_implementation": "eager"} if capped else {}


def unjoinable(config: Mapping[str, Any]) -> str:
    """Why no job can train jointly on a base of this configuration, as far as it tells; empty where nothing speaks against it."""
    kind = str(config.get("model_type") or "")
    if kind in _OWN_ATTENTION:
        return f"a base of the kind {kind} brings its own attention, which cannot be shared between jobs"
    if kind in _SINKS:
        return f"a base of the kind {kind} has attention sinks, which joint training does not compute"
    known = _KNOWN.get(kind, frozenset())
    for name, neutral in ((_FACTOR, 1), (_DIVISOR, 1), (_FINAL_CAP, None), (_ATTENTION_CAP, None)):
        if name not in known and config.get(name) not in (None, neutral):
            return f"a base of the kind {kind or 'unknown'} has {name}, which joint training does not compute"
    return ""
