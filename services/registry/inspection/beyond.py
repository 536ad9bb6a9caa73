"""What an adapter may hold beyond A and B: accepted when it is sound, though no engine loads it as it is.

DoRA's magnitudes, biases, whole modules, single tokens, embeddings of a grown vocabulary.  Invariant: each is
taken only where the configuration asks for it, in the shape that the base gives it, so that a merge finds
nothing that it cannot place.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from services.registry.inspection import Unfit
from services.registry.inspection.tensors import Tensor

EMBEDDING, HEAD = "model.embed_tokens", "lm_head"
_VOCABULARY = frozenset({EMBEDDING, HEAD})
_BEYOND = re.compile(
    r"^base_model\.model\.(?P<module>[A-Za-z0-9_.]{1,400}?)"
    r"(?P<part>\.lora_B\.bias|\.token_adapter\.trainable_tokens_delta|(?:\.base_layer)?\.(?:weight|bias))$"
)
_MAX_TOKENS = 1 << 21
_MOST_NAMED = 8


@dataclass(slots=True)
class Beyond:
    """Tensors of the base that an adapter replaces or adds to, by the base's module.

    ``weights`` and ``biases`` are values that stand in for the base's; ``added_biases`` are LoRA's own, to be scaled;
    ``tokens`` are rows of an embedding.
    """

    weights: dict[str, Tensor] = field(default_factory=dict)
    biases: dict[str, Tensor] = field(default_factory=dict)
    added_biases: dict[str, Tensor] = field(default_factory=dict)
    tokens: dict[str, Tensor] = field(default_factory=dict)


def gathered(config: Mapping[str, object], others: Iterable[Tensor]) -> Beyond:
    """Sort tensors that are no A or B, each held to what the configuration asks for.  Raises Unfit."""
    found, saved_modules = Beyond(), frozenset(modules_to_save(config))
    for tensor in others:
        match = _BEYOND.match(tensor.name)
        if match is None:
            raise Unfit(f"adapter_model.safetensors: {tensor.name[:200]} is not the name of an adapter's tensor")
        module, part = match["module"], match["part"].rpartition(".")[2]
        if match["part"] == ".lora_B.bias":
            _place(found.added_biases, module, tensor, bool(config.get("lora_bias")), "lora_bias")
        elif part == "trainable_tokens_delta":
            # Said here: a list of tokens is long, and is looked at for each module that has some.
            if module not in _VOCABULARY:
                raise Unfit(f"adapter_model.safetensors: {tensor.name[:200]}: only {EMBEDDING} and {HEAD} have tokens")
            _place(found.tokens, module, tensor, bool(token_indices(config, module)), "trainable_token_indices")
        elif part == "bias":
            _place(found.biases, module, tensor, config.get("bias", "none") != "none", "bias")
        else:
            saved = module in _VOCABULARY or module.rpartition(".")[2] in saved_modules
            _place(found.weights, module, tensor, saved, "modules_to_save")
    return found


def _place(into: dict[str, Tensor], module: str, tensor: Tensor, asked: bool, key: str) -> None:
    if not asked:
        raise Unfit(f"adapter_model.safetensors: {tensor.name[:200]} is there, but adapter_config.json sets no {key}")
    if module in into:
        raise Unfit(f"adapter_model.safetensors: {module} is replaced twice")
    into[module] = tensor


def modules_to_save(config: Mapping[str, object]) -> tuple[str, ...]:
    """Last names of modules that are trained whole.  Raises Unfit."""
    named = config.get("modules_to_save") or []
    if not isinstance(named, list) or not all(isinstance(name, str) and len(name) < 200 for name in named):
        raise Unfit("adapter_config.json: modules_to_save must be a list of names")
    return tuple(name.rpartition(".")[2] for name in named)


def token_indices(config: Mapping[str, object], module: str) -> list[int]:
    """The tokens of an embedding that are trained by themselves, in the order of their rows.  Raises Unfit."""
    told = config.get("trainable_token_indices") or []
    if isinstance(told, dict):
        last = module.rpartition(".")[2]
        told = next((value for key, value in told.items() if module == key or last == key.rpartition(".")[2]), [])
    elif module != EMBEDDING:
        return []
    listed = told if isinstance(told, list) else []
    tokens = [index for index in listed if type(index) is int and 0 <= index < _MAX_TOKENS]
    if tokens != told or len(set(tokens)) != len(tokens):
        raise Unfit("adapter_config.json: trainable_token_indices must be lists of different tokens")
    return tokens


def check_shapes(
    config: Mapping[str, object], found: Beyond, base_shapes: Mapping[str, tuple[int, int]] | None
) -> None:
    """Hold what is replaced to itself and, where they are known, to the base's modules.  Raises Unfit."""
    rows = {tensor.shape[0] for module, tensor in found.weights.items() if module in _VOCABULARY and tensor.shape}
    if len(rows) > 1:
        raise Unfit("adapter_model.safetensors: embeddings and output layer have vocabularies of different lengths")
    for module in (EMBEDDING, HEAD, *found.tokens):
        indices, tensor = token_indices(config, module), found.tokens.get(module)
        if tensor is not None and (len(tensor.shape) != 2 or tensor.shape[0] != len(indices)):
            raise Unfit(f"adapter_model.safetensors: {module} has other tokens than trainable_token_indices names")
    for module, tensor in (*found.biases.items(), *found.added_biases.items()):
        _check_bias(module, tensor, base_shapes)
    if base_shapes is not None:
        for module, tensor in found.weights.items():
            _check_weight(module, tensor, base_shapes)


def _check_bias(module: str, tensor: Tensor, base_shapes: Mapping[str, tuple[int, int]] | None) -> None:
    if len(tensor.shape) != 1:
        raise Unfit(f"adapter_model.safetensors: the bias of {module} is no vector")
    if base_shapes is not None and (module not in base_shapes or tensor.shape != (base_shapes[module][0],)):
        raise Unfit(f"adapter_model.safetensors: the bias of {module} does not fit the base")


def _check_weight(module: str, tensor: Tensor, base_shapes: Mapping[str, tuple[int, int]]) -> None:
    shape = base_shapes.get(module)
    if shape is None:
        # What has one dimension is no module of the base's map: a norm, which the merge holds to its place.
        if len(tensor.shape) != 1 or not module.endswith("norm"):
            raise Unfit(f"adapter_model.safetensors: the base model has no module {module}")
    elif len(tensor.shape) != 2 or tensor.shape[1] != shape[1]:
        raise Unfit(f"adapter_model.safetensors: {module} does not fit the base")
    elif tensor.shape[0] != shape[0] and (module not in _VOCABULARY or tensor.shape[0] < shape[0]):
        raise Unfit(f"adapter_model.safetensors: {module} has {tensor.shape[0]} rows, the base has {shape[0]}")


def unservable(config: Mapping[str, object], found: Beyond, magnitudes: bool) -> str:
    """What about the adapter no engine loads, for people; empty for an ordinary one."""
    reasons = []
    if magnitudes or config.get("use_dora"):
        reasons.append("it uses DoRA")
    if found.biases or config.get("bias", "none") != "none":
        reasons.append("it trains biases")
    if found.added_biases or config.get("lora_bias"):
        reasons.append("it has LoRA biases")
    if saved := modules_to_save(config):
        more = ", …" if len(saved) > _MOST_NAMED else ""
        reasons.append(f"it replaces whole modules ({', '.join(saved[:_MOST_NAMED])}{more})")
    elif found.weights:
        reasons.append("it brings a vocabulary of its own")
    if found.tokens or config.get("trainable_token_indices"):
        reasons.append("it retrains single tokens")
    return " and ".join(reasons)
