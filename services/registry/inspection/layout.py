"""Which architectures a full model may have, and which tensors, of which shapes, its configuration then demands.

Those whose linear layers are named as Llama's are: vLLM 0.32 serves them, transformers trains them, and
adapters name their modules alike.  Invariant: what is returned follows from numbers within bounds, so no
configuration can make a reader reserve more memory than a model of that size needs.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from services.registry.inspection import Unfit
from services.registry.inspection.encoder_layout import ENCODERS

Shapes = dict[str, tuple[int, ...]]

_POSITIONS = "max_position_embeddings"
_MOST = {
    "hidden_size": 1 << 16,
    "intermediate_size": 1 << 18,
    "num_hidden_layers": 512,
    "num_attention_heads": 1024,
    "vocab_size": 1 << 21,
    _POSITIONS: 1 << 22,
}
_MOST_HEAD_DIM = 4096


@dataclass(frozen=True, slots=True)
class Architecture:
    """What sets one architecture apart from Llama's; ``tied`` is what holds when the configuration is silent."""

    model_type: str
    tied: bool = False
    biased_attention: tuple[str, ...] = ()
    norms: tuple[str, ...] = ("input_layernorm", "post_attention_layernorm")
    head_norms: tuple[str, ...] = ()


ARCHITECTURES: Mapping[str, Architecture] = {
    "LlamaForCausalLM": Architecture("llama"),
    "MistralForCausalLM": Architecture("mistral"),
    "GraniteForCausalLM": Architecture("granite"),
    "SmolLM3ForCausalLM": Architecture("smollm3", tied=True),
    "Qwen2ForCausalLM": Architecture("qwen2", biased_attention=("q_proj", "k_proj", "v_proj")),
    "Qwen3ForCausalLM": Architecture("qwen3", head_norms=("q_norm", "k_norm")),
    "GemmaForCausalLM": Architecture("gemma", tied=True),
    "Gemma2ForCausalLM": Architecture(
        "gemma2",
        tied=True,
        norms=(
            "input_layernorm",
            "post_attention_layernorm",
            "pre_feedforward_layernorm",
            "post_feedforward_layernorm",
        ),
    ),
}


def architecture(config: Mapping[str, object]) -> Architecture:
    """The architecture that ``config.json`` names.  Raises Unfit."""
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and len(names) == 1 else None
    found = ARCHITECTURES.get(name) if isinstance(name, str) else None
    if found is None:
        if name in ENCODERS:
            raise Unfit(f"config.json: {name} is an encoder: publish it as one, of the kind ENCODER")
        known = ", ".join(ARCHITECTURES)
        raise Unfit(f"config.json: the architecture {str(names)[:80]} is not served; these are: {known}")
    if config.get("model_type") != found.model_type:
        raise Unfit(f"config.json: model_type must be {found.model_type} for {name}")
    return found


def tied(config: Mapping[str, object]) -> bool:
    """Whether the output layer is the embedding itself.  Raises Unfit."""
    value = config.get("tie_word_embeddings", architecture(config).tied)
    if not isinstance(value, bool):
        raise Unfit("config.json: tie_word_embeddings must be true or false")
    return value


def tensors(config: Mapping[str, object]) -> Shapes:
    """Name and shape of every tensor that a model of this configuration has.  Raises Unfit."""
    kind = architecture(config)
    hidden, layers = _number(config, "hidden_size"), _number(config, "num_hidden_layers")
    shapes: Shapes = {
        "model.embed_tokens.weight": (_number(config, "vocab_size"), hidden),
        "model.norm.weight": (hidden,),
    }
    if not tied(config):
        shapes["lm_head.weight"] = shapes["model.embed_tokens.weight"]
    one = _layer(config, kind, hidden)
    for layer in range(layers):
        shapes.update({f"model.layers.{layer}.{name}": shape for name, shape in one.items()})
    return shapes


def modules(config: Mapping[str, object]) -> dict[str, tuple[int, int]]:
    """[out, in] of every linear layer and of the embedding, [tokens, hidden], by module path.  Raises Unfit."""
    found = {
        name.removesuffix(".weight"): (shape[0], shape[1]) for name, shape in tensors(config).items() if len(shape) == 2
    }
    # With tied weights the output layer has no tensor of its own.
    found.setdefault("lm_head", found["model.embed_tokens"])
    return found


def _layer(config: Mapping[str, object], kind: Architecture, hidden: int) -> Shapes:
    inner, heads = _number(config, "intermediate_size"), _number(config, "num_attention_heads")
    key_heads = _key_heads(config, kind, heads)
    head = _head_dim(config, hidden, heads)
    linear = {
        "self_attn.q_proj": (heads * head, hidden),
        "self_attn.k_proj": (key_heads * head, hidden),
        "self_attn.v_proj": (key_heads * head, hidden),
        "self_attn.o_proj": (hidden, heads * head),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    shapes: Shapes = {f"{name}.weight": shape for name, shape in linear.items()}
    for name, shape in linear.items():
        if _biased(config, kind, name):
            shapes[f"{name}.bias"] = (shape[0],)
    shapes.update({f"{norm}.weight": (hidden,) for norm in kind.norms})
    shapes.update({f"self_attn.{norm}.weight": (head,) for norm in kind.head_norms})
    return shapes


def _biased(config: Mapping[str, object], kind: Architecture, name: str) -> bool:
    part, _, last = name.partition(".")
    if kind.biased_attention:
        return last in kind.biased_attention
    return bool(config.get("attention_bias" if part == "self_attn" else "mlp_bias"))


def _key_heads(config: Mapping[str, object], kind: Architecture, heads: int) -> int:
    value = config.get("num_key_value_heads")
    if value is None and kind.model_type in ("llama", "granite"):
        return heads
    if type(value) is not int or not 1 <= value <= heads or heads % value:
        raise Unfit("config.json: num_key_value_heads must be a divisor of num_attention_heads")
    return value


def _head_dim(config: Mapping[str, object], hidden: int, heads: int) -> int:
    value = config.get("head_dim")
    if value is None:
        value = hidden // heads
    if type(value) is not int or not 1 <= value <= _MOST_HEAD_DIM:
        raise Unfit(f"config.json: head_dim must be a whole number from 1 to {_MOST_HEAD_DIM}")
    return value


def _number(config: Mapping[str, object], key: str) -> int:
    value = config.get(key)
    if type(value) is not int or not 1 <= value <= _MOST[key]:
        raise Unfit(f"config.json: {key} must be a whole number from 1 to {_MOST[key]}")
    return value


def check_positions(config: Mapping[str, object]) -> None:
    """Raise Unfit for positions that a reader would build tables of without bound."""
    most = _number(config, _POSITIONS)
    for key in ("rope_scaling", "rope_parameters"):
        scaling = config.get(key) or {}
        if not isinstance(scaling, dict):
            raise Unfit(f"config.json: {key} must be an object")
        for name in ("factor", "original_max_position_embeddings"):
            value = scaling.get(name, 1)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _MOST[_POSITIONS]:
                raise Unfit(f"config.json: {key}.{name} is no number that positions can be scaled by")
        stretched = scaling.get("factor", 1) * scaling.get("original_max_position_embeddings", most)
        if stretched > _MOST[_POSITIONS]:
            raise Unfit(f"config.json: {key} stretches positions beyond {_MOST[_POSITIONS]}")
