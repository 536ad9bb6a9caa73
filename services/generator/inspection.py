"""The limited child that reads an adapter's bytes before the engine does; run as a program.

Takes one JSON task on standard input, gives one JSON verdict on standard output.  It
imports neither torch nor a parser of weights: the safetensors header is read by hand.

Invariant: an accepted file's tensors tile it without holes, are the A and B of modules
that this deployment lets adapters change, with the base's widths, one rank within the
limit, and finite numbers.  What the engine will read as configuration is written anew from what was
checked here; the adapter's own configuration never reaches it.
"""

from __future__ import annotations

import json
import math
import re
import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

MAX_HEADER_BYTES = 16 << 20
MAX_CONFIG_BYTES = 1 << 20
MAX_TENSORS = 20_000
_MEMORY_BYTES = 1 << 30
_SCAN_BYTES = 8 << 20
_CPU_SECONDS = 60

# dtype: bytes a number, unsigned view of it, exponent bits that are all ones in NaN and infinity.
_FLOATS = {"BF16": (2, "<u2", 0x7F80), "F16": (2, "<u2", 0x7C00), "F32": (4, "<u4", 0x7F80_0000)}
# What the engine keeps of a float32 is its first half, rounded: from these bits on it rounds to infinity.
_MAGNITUDE, _BEYOND_BF16 = 0x7FFF_FFFF, 0x7F7F_8000
_TENSOR = re.compile(
    r"base_model\.model\.(?P<module>[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*)\."
    r"(?:lora_(?P<part>[AB])\.weight|lora_embedding_(?P<table>[AB]))"
)
_EMBEDDING = "embed_tokens"
_PATTERN = re.compile(r"[A-Za-z0-9_.]{1,200}")
# Initialisations after which a saved adapter is an ordinary one; others change the base.
_PLAIN_INITS = (None, True, False, "gaussian", "eva", "orthogonal")
# Keys that say nothing about how the adapter computes, and those that are read below.
_READ = frozenset({
    "alpha_pattern", "base_model_name_or_path", "bias", "exclude_modules", "inference_mode", "init_lora_weights",
    "layers_pattern", "layers_to_transform", "lora_alpha", "lora_dropout", "megatron_core", "peft_type", "peft_version",
    "qalora_group_size", "r", "rank_pattern", "revision", "runtime_config", "target_modules", "task_type", "use_rslora",
})  # fmt: skip

# What the registry keeps all the same, because a merge makes a full model of it that is served.
_MERGED = frozenset({"use_dora", "lora_bias", "modules_to_save", "trainable_token_indices"})
_MERGE = "merge it into a full model: trivium models merge NAME@VERSION --into NAME2"
_WHOLE = re.compile(r"base_model\.model\.(model\.embed_tokens|lm_head)(\.base_layer)?\.weight")


class Unfit(Exception):
    """The adapter is refused; the text is shown to people."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One entry of the header; offsets count from the end of the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def inspect(folder: Path, max_rank: int, widths: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
    """Check both files; returns rank, parameters and the configuration to load with.

    ``widths`` maps each module that adapters may change to [out, in].  Raises Unfit.
    """
    config = read_config(folder / "adapter_config.json")
    weights = folder / "adapter_model.safetensors"
    tensors, data_offset = read_header(weights)
    ranks = check_tensors(tensors, config, max_rank, widths)
    require_finite(weights, tensors, data_offset)
    return {
        "rank": max(ranks.values()),
        "parameters": sum(math.prod(tensor.shape) for tensor in tensors),
        "config": clean_config(config, ranks),
    }


def read_config(path: Path) -> dict[str, Any]:
    """The configuration, if it only says what a plain LoRA may say.  Raises Unfit."""
    raw = path.read_bytes()
    if len(raw) > MAX_CONFIG_BYTES:
        raise Unfit(f"adapter_config.json has {len(raw)} bytes, over {MAX_CONFIG_BYTES}")
    try:
        config = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        raise Unfit("adapter_config.json is not JSON") from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise Unfit("adapter_config.json does not describe a LoRA adapter")
    spoken = [key for key, value in config.items() if key not in _READ and value]
    if spoken:
        remedy = f"; {_MERGE}" if spoken[0] in _MERGED else ""
        raise Unfit(f"adapter_config.json: {spoken[0][:80]} is set, which is not served{remedy}")
    if config.get("bias", "none") != "none":
        raise Unfit(f"adapter_config.json: trained biases are not served; {_MERGE}")
    if config.get("init_lora_weights") not in _PLAIN_INITS:
        raise Unfit("adapter_config.json: init_lora_weights changes the base; convert the adapter first")
    _numbers(config)
    return config


def _numbers(config: Mapping[str, Any]) -> None:
    if type(config.get("r")) is not int or config["r"] < 1:
        raise Unfit("adapter_config.json: r must be a whole number from 1")
    if not _positive(config.get("lora_alpha", 8)):
        raise Unfit("adapter_config.json: lora_alpha must be a number above 0")
    if not isinstance(config.get("use_rslora", False), bool):
        raise Unfit("adapter_config.json: use_rslora must be true or false")
    for key in ("rank_pattern", "alpha_pattern"):
        pattern = config.get(key) or {}
        if not isinstance(pattern, dict) or len(pattern) > MAX_TENSORS:
            raise Unfit(f"adapter_config.json: {key} must be an object")
        for name, value in pattern.items():
            # The engine matches these as regular expressions: only plain names may reach it.
            if not _PATTERN.fullmatch(name) or not _positive(value):
                raise Unfit(f"adapter_config.json: {key} holds more than names and numbers")
    if any(type(value) is not int for value in (config.get("rank_pattern") or {}).values()):
        raise Unfit("adapter_config.json: rank_pattern must hold whole numbers")


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1e6


def read_header(path: Path) -> tuple[list[Tensor], int]:
    """The tensors in file order and where their bytes begin.  Raises Unfit on any flaw."""
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        if size_bytes < 10 or header_bytes > min(MAX_HEADER_BYTES, size_bytes - 8):
            raise Unfit("adapter_model.safetensors is not safetensors: its header does not fit the file")
        raw = file.read(header_bytes)
    if not raw.startswith(b"{"):
        raise Unfit("adapter_model.safetensors is not safetensors: no header")
    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        raise Unfit("adapter_model.safetensors is not safetensors: its header is not JSON") from None
    _require_plain_metadata(header.pop("__metadata__", {}))
    if not header or len(header) > MAX_TENSORS:
        raise Unfit(f"adapter_model.safetensors holds {len(header)} tensors")
    tensors = sorted((_tensor(name, entry) for name, entry in header.items()), key=lambda item: item.start)
    position = 0
    for tensor in tensors:
        if tensor.start != position:
            raise Unfit(f"adapter_model.safetensors: a hole or an overlap before {tensor.name}")
        position = tensor.stop
    if position != size_bytes - 8 - header_bytes:
        raise Unfit("adapter_model.safetensors: bytes that belong to no tensor")
    return tensors, 8 + header_bytes


def _require_plain_metadata(metadata: object) -> None:
    """Raise Unfit for what readers of safetensors stumble over: they take text by text and nothing else."""
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise Unfit("adapter_model.safetensors: __metadata__ must map text to text")


def _tensor(name: str, entry: object) -> Tensor:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise Unfit(f"adapter_model.safetensors: the entry of {name[:200]} is malformed")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _FLOATS:
        raise Unfit(f"adapter_model.safetensors: {name[:200]} has dtype {str(dtype)[:20]}")
    numbers = [*shape, *offsets] if isinstance(shape, list) and isinstance(offsets, list) else [None]
    if len(numbers) != 4 or any(type(number) is not int or not 0 <= number < 1 << 48 for number in numbers):
        raise Unfit(f"adapter_model.safetensors: {name[:200]} is not a matrix with offsets")
    if math.prod(shape) * _FLOATS[dtype][0] != offsets[1] - offsets[0]:
        raise Unfit(f"adapter_model.safetensors: {name[:200]} has another length than its shape")
    return Tensor(name, dtype, tuple(shape), offsets[0], offsets[1])


def check_tensors(
    tensors: list[Tensor], config: Mapping[str, Any], max_rank: int, widths: Mapping[str, tuple[int, int]]
) -> dict[str, int]:
    """Rank of each adapted module.  Raises Unfit."""
    modules: dict[str, dict[str, Tensor]] = {}
    for tensor in tensors:
        found = _TENSOR.fullmatch(tensor.name)
        if _WHOLE.fullmatch(tensor.name):
            raise Unfit(f"{tensor.name}: a vocabulary of the adapter's own is not served; {_MERGE}")
        if found is None or found["module"] not in widths:
            raise Unfit(
                f"{tensor.name[:200]}: only these modules of the base may be adapted here: {_last_names(widths)}"
            )
        if (found["table"] is None) == (found["module"].rpartition(".")[2] == _EMBEDDING):
            raise Unfit(f"{tensor.name[:200]}: an embedding has lora_embedding_A and B, all else lora_A and B")
        modules.setdefault(found["module"], {})[found["part"] or found["table"]] = tensor
    ranks = {}
    for module, parts in modules.items():
        if set(parts) != {"A", "B"}:
            raise Unfit(f"{module} lacks a matrix")
        (rank, inputs), (outputs, rank_b) = parts["A"].shape, parts["B"].shape
        if (outputs, inputs) != widths[module]:
            raise Unfit(f"{module} is made for {outputs} x {inputs}, the base has {widths[module]}")
        if rank != rank_b or rank != _configured_rank(config, module):
            raise Unfit(f"{module} has rank {rank} and {rank_b}, the configuration says otherwise")
        if rank > max_rank:
            raise Unfit(
                f"{module} has rank {rank}, and this deployment serves up to {max_rank}: train with such a rank, or have "
                "the operator raise TRIVIUM_GENERATOR_MAX_LORA_RANK"
            )
        ranks[module] = rank
    return ranks


def _last_names(widths: Mapping[str, tuple[int, int]]) -> str:
    return ", ".join(sorted({module.rpartition(".")[2] for module in widths})) or "none"


def _configured_rank(config: Mapping[str, Any], module: str) -> int:
    for name, rank in (config.get("rank_pattern") or {}).items():
        # As PEFT and the engine match it: its dots stand for any letter.
        if re.fullmatch(rf"(?:.*\.)?{name}", module):
            return int(rank)
    return int(config["r"])


def require_finite(path: Path, tensors: list[Tensor], data_offset: int) -> None:
    """Raise Unfit when a number is NaN or infinite."""
    with path.open("rb") as file:
        for tensor in tensors:
            _, view, exponent = _FLOATS[tensor.dtype]
            file.seek(data_offset + tensor.start)
            left = tensor.stop - tensor.start
            while left:
                block = np.frombuffer(file.read(min(left, _SCAN_BYTES)), dtype=view)
                if ((block & exponent) == exponent).any():
                    raise Unfit(f"{tensor.name} holds a number that is not finite")
                if tensor.dtype == "F32" and ((block & _MAGNITUDE) >= _BEYOND_BF16).any():
                    raise Unfit(f"{tensor.name} holds a number that is too large for bfloat16")
                left -= block.nbytes


def clean_config(config: Mapping[str, Any], ranks: Mapping[str, int]) -> dict[str, Any]:
    """What the engine gets to read, from checked values alone."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        # Where rank_pattern names every module, r is nobody's and may be beyond what the engine takes.
        "r": min(config["r"], max(ranks.values())),
        "lora_alpha": config.get("lora_alpha", 8),
        "use_rslora": config.get("use_rslora") is True,
        "bias": "none",
        "rank_pattern": config.get("rank_pattern") or {},
        "alpha_pattern": config.get("alpha_pattern") or {},
        "target_modules": sorted({module.rpartition(".")[2] for module in ranks}),
    }


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Unfit("a key stands twice")
    return found


def limit_this_process() -> None:
    """Bound memory and CPU; nothing may be written, nothing started."""
    for limit, value in (
        (resource.RLIMIT_AS, _MEMORY_BYTES),
        (resource.RLIMIT_CPU, _CPU_SECONDS),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(limit, (value, value))


def main() -> None:
    """One task, one verdict; anything that goes wrong otherwise ends the process."""
    limit_this_process()
    task = json.load(sys.stdin)
    widths = {module: (int(shape[0]), int(shape[1])) for module, shape in task["widths"].items()}
    try:
        verdict = {"fit": True, **inspect(Path(task["folder"]), int(task["max_rank"]), widths)}
    except Unfit as unfit:
        verdict = {"fit": False, "problem": str(unfit)[:1000]}
    json.dump(verdict, sys.stdout)


if __name__ == "__main__":
    main()
