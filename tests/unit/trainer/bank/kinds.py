"""Random bases that scale or cap what others leave as it is."""

from pathlib import Path
from typing import Any

SIZES = {
    # No vector divides it.
    "vocab_size": 259,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    # Large enough that caps bend.
    "initializer_range": 0.3,
}
# In each every factor and cap matters.
KINDS: dict[str, dict[str, Any]] = {
    "Granite": {
        "logits_scaling": 3.0,
        "attention_multiplier": 0.2,
        "residual_multiplier": 0.6,
        "embedding_multiplier": 3.0,
    },
    "Cohere": {"logit_scale": 0.25},
    "Cohere2": {"logit_scale": 0.25, "sliding_window": 16},
    "Gemma2": {
        "head_dim": 8,
        "query_pre_attn_scalar": 8,
        "sliding_window": 16,
        "attn_logit_softcapping": 2.0,
        "final_logit_softcapping": 4.0,
    },
}


def make_base_of(folder: Path, kind: str, **changes: Any) -> Path:
    """Write a base of the kind into a folder below `folder`, and return that; the same weights every time."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**SIZES, **{**KINDS[kind], **changes}, pad_token_id=0)
    getattr(transformers, f"{kind}ForCausalLM")(config).save_pretrained(folder / kind)
    return folder / kind
