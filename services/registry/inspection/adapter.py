"""What makes a LoRA adapter whole: its configuration says nothing dangerous and its tensors agree.

Invariant: an accepted adapter has for every adapted module one A of [rank, in]
and one B of [out, rank] with the rank that the configuration gives that module,
and its configuration names no code, no path to load and no second model.
Key names are those of PEFT's ``adapter_config.json`` and ``adapter_model.safetensors``.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from services.registry.inspection import Unfit, beyond
from services.registry.inspection.tensors import Tensor

MAX_RANK = 512
MAGNITUDE = "lora_magnitude_vector"
# Names in a module's path; today's models have about ten.
MAX_DEPTH = 32
FLOATS = frozenset({"F32", "F16", "BF16"})

# Keys whose value means something to a reader of ours.
_MEANINGFUL = frozenset({
    "alpha_pattern", "base_model_name_or_path", "bias", "exclude_modules", "fan_in_fan_out", "inference_mode",
    "init_lora_weights", "layers_pattern", "layers_to_transform", "lora_alpha", "lora_dropout", "peft_type",
    "peft_version", "qalora_group_size", "r", "rank_pattern", "revision", "target_modules", "task_type",
    "use_dora", "use_rslora", "lora_bias", "modules_to_save", "trainable_token_indices",
})  # fmt: skip
# Ways to begin training after which only what is left of the base fits the adapter.
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
_KEY = re.compile(
    r"^base_model\.model\.(?P<module>[A-Za-z0-9_.]{1,400})\."
    r"(?P<part>lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector)(\.weight)?$"
)


@dataclass(frozen=True, slots=True)
class AdapterFacts:
    """What the registry records of an accepted adapter; ``modules`` are full module paths.

    ``unservable`` is what about it no engine loads, empty for an ordinary one.
    """

    rank: int
    alpha: float
    modules: tuple[str, ...]
    parameters: int
    unservable: str = ""


def check_config(config: object) -> Mapping[str, object]:
    """The configuration, if it only says what an adapter may say.  Raises Unfit with the key at fault."""
    if not isinstance(config, dict):
        raise Unfit("adapter_config.json is not an object")
    for key, value in config.items():
        # PEFT writes every option it knows; an option that is off says nothing.
        if key not in _MEANINGFUL and not _silent(key, value):
            raise Unfit(f"adapter_config.json: the key {key[:80]} is not accepted with a value")
    if config.get("peft_type") != "LORA":
        raise Unfit(f"adapter_config.json: peft_type is {str(config.get('peft_type'))[:40]}, only LORA is accepted")
    if config.get("bias", "none") not in ("none", "all", "lora_only"):
        raise Unfit("adapter_config.json: bias must be none, all or lora_only")
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_CHANGES_BASE):
        raise Unfit(
            f"adapter_config.json: init_lora_weights {start[:40]} changes the base model's own weights, so the adapter "
            "does not fit the base; convert it to a plain adapter when saving"
        )
    _check_numbers(config)
    return config


def _check_numbers(config: Mapping[str, object]) -> None:
    rank, alpha = config.get("r"), config.get("lora_alpha", 8)
    if type(rank) is not int or not 1 <= rank <= MAX_RANK:
        raise Unfit(f"adapter_config.json: r must be a whole number from 1 to {MAX_RANK}")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha <= 1e6:
        raise Unfit("adapter_config.json: lora_alpha must be a number above 0")
    for key in ("rank_pattern", "alpha_pattern"):
        if not isinstance(config.get(key) or {}, dict):
            raise Unfit(f"adapter_config.json: {key} must be an object")


def _silent(key: str, value: object) -> bool:
    """Whether an option that we do not know is off, or is the one default that PEFT always writes."""
    return not value or (key == "megatron_core" and value == "megatron.core")


def check_tensors(
    config: Mapping[str, object], tensors: list[Tensor], base_shapes: Mapping[str, tuple[int, int]] | None
) -> AdapterFacts:
    """Check names, dtypes and shapes against the configuration and, where known, the base's modules.

    ``base_shapes`` maps a module path to [out, in]; None when the base's files are not at hand.
    """
    modules, others = sorted_out(tensors)
    if not modules:
        raise Unfit("adapter_model.safetensors holds no tensors")
    pattern = _ranks_by_suffix(config)
    for module, parts in modules.items():
        expected = _rank_of(config, pattern, module)
        _check_module(module, parts, expected)
        _check_magnitude(module, parts, dora=bool(config.get("use_dora")))
        if base_shapes is not None:
            _check_against_base(module, parts, base_shapes)
    rank, alpha = config["r"], config.get("lora_alpha", 8)
    assert isinstance(rank, int)  # check_config saw to it
    assert isinstance(alpha, int | float)
    found = beyond.gathered(config, others)
    beyond.check_shapes(config, found, base_shapes)
    return AdapterFacts(
        rank=rank,
        alpha=float(alpha),
        modules=tuple(sorted(modules)),
        parameters=sum(_count(tensor) for tensor in tensors),
        unservable=beyond.unservable(config, found, any(MAGNITUDE in parts for parts in modules.values())),
    )


def sorted_out(tensors: Iterable[Tensor]) -> tuple[dict[str, dict[str, Tensor]], list[Tensor]]:
    """The tensors of adapted modules by module and part, and all others.  Raises Unfit."""
    modules: dict[str, dict[str, Tensor]] = {}
    others = []
    for tensor in tensors:
        if tensor.dtype not in FLOATS:
            raise Unfit(f"adapter_model.safetensors: {tensor.name[:200]} has dtype {tensor.dtype}")
        match = _KEY.match(tensor.name)
        if match is None:
            others.append(tensor)
        else:
            modules.setdefault(match["module"], {})[match["part"]] = tensor
    return modules, others


def _ranks_by_suffix(config: Mapping[str, object]) -> dict[str, tuple[int, int]]:
    """Place and rank of each entry of the pattern.

    A pattern names the end of a module path.  It is matched as text: a regular
    expression from an upload would run on our time.
    """
    pattern = config.get("rank_pattern") or {}
    assert isinstance(pattern, dict)  # check_config saw to it
    ranks = {key: (place, rank) for place, (key, rank) in enumerate(pattern.items()) if type(rank) is int}
    if not all(1 <= rank <= MAX_RANK for _, rank in ranks.values()):
        raise Unfit(f"adapter_config.json: rank_pattern must hold whole numbers from 1 to {MAX_RANK}")
    return ranks


def _rank_of(config: Mapping[str, object], pattern: Mapping[str, tuple[int, int]], module: str) -> int:
    """The first entry of the pattern that fits, looked up by the module's own endings: many entries cost no more."""
    names = module.split(".")
    if len(names) > MAX_DEPTH:
        raise Unfit(f"adapter_model.safetensors: {module[:80]} lies {len(names)} modules deep, over {MAX_DEPTH}")
    endings = (".".join(names[start:]) for start in range(len(names)))
    fitting = [pattern[ending] for ending in endings if ending in pattern]
    if fitting:
        return min(fitting)[1]
    rank = config["r"]
    assert isinstance(rank, int)
    return rank


def _check_module(module: str, parts: Mapping[str, Tensor], rank: int) -> None:
    down = parts.get("lora_A") or parts.get("lora_embedding_A")
    up = parts.get("lora_B") or parts.get("lora_embedding_B")
    if down is None or up is None:
        raise Unfit(f"adapter_model.safetensors: {module} lacks its {'A' if down is None else 'B'} matrix")
    if len(down.shape) != 2 or len(up.shape) != 2:
        raise Unfit(f"adapter_model.safetensors: the matrices of {module} are not two-dimensional")
    if down.shape[0] != up.shape[1]:
        raise Unfit(f"adapter_model.safetensors: A of {module} has rank {down.shape[0]}, B has {up.shape[1]}")
    if down.shape[0] != rank:
        raise Unfit(f"adapter_model.safetensors: {module} has rank {down.shape[0]}, adapter_config.json says {rank}")
    if down.dtype != up.dtype:
        raise Unfit(f"adapter_model.safetensors: A of {module} is {down.dtype}, B is {up.dtype}")


def _check_magnitude(module: str, parts: Mapping[str, Tensor], *, dora: bool) -> None:
    magnitude = parts.get(MAGNITUDE)
    if (magnitude is not None) is not dora:
        flaw = "use_dora is off" if magnitude is not None else "it lacks its magnitude"
        raise Unfit(f"adapter_model.safetensors: {module}: {flaw}")
    if magnitude is not None and "lora_B" in parts and _count(magnitude) != parts["lora_B"].shape[0]:
        raise Unfit(f"adapter_model.safetensors: the magnitude of {module} does not fit its rows")


def _check_against_base(module: str, parts: Mapping[str, Tensor], base_shapes: Mapping[str, tuple[int, int]]) -> None:
    shape = base_shapes.get(module)
    if shape is None:
        raise Unfit(f"adapter_model.safetensors: the base model has no module {module}")
    if "lora_A" not in parts:
        return  # embeddings hold their matrices the other way round
    found = (parts["lora_B"].shape[0], parts["lora_A"].shape[1])
    if found != shape:
        raise Unfit(
            f"adapter_model.safetensors: {module} fits a base of {found[0]} x {found[1]}, "
            f"the base model has {shape[0]} x {shape[1]}"
        )


def _count(tensor: Tensor) -> int:
    total = 1
    for size in tensor.shape:
        total *= size
    return total
