"""Which modules of a base adapters may change: read from the base itself, so that every architecture has its own names.

The engine wraps these and no others, and verification lets adapters of these through and no others: both take them
from here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

# Linear layers of attention and MLP by their names in Llama, Mistral, Qwen and Gemma; in OPT; in Phi and GPT-NeoX.
LINEAR = frozenset({
    "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "out_proj", "fc1", "fc2", "dense",
    "qkv_proj", "gate_up_proj", "query_key_value", "dense_h_to_4h", "dense_4h_to_h",
})  # fmt: skip
EMBEDDING = "embed_tokens"
HEAD = "lm_head"
_MAX_HEADER_BYTES = 64 << 20

Shapes = Mapping[str, tuple[int, int]]
"""[out, in] of modules by their full names; of the embedding [hidden, vocabulary], as adapters see it."""


def module_shapes(base_folder: Path) -> Shapes:
    """Every module of a base that an adapter could change, from the headers of its weights.  Blocks."""
    found: dict[str, tuple[int, int]] = {}
    for path in sorted(base_folder.glob("*.safetensors")):
        for name, shape in _matrices(path):
            module, _, part = name.rpartition(".")
            last = module.rpartition(".")[2]
            if part == "weight" and last in LINEAR | {HEAD}:
                found[module] = shape
            elif part == "weight" and last == EMBEDDING:
                found[module] = (shape[1], shape[0])
    embeddings = [name for name in found if name.rpartition(".")[2] == EMBEDDING]
    if embeddings and HEAD not in found:
        # Tied: the head has the embedding's weights, and a file does not hold them twice.
        hidden, vocabulary = found[embeddings[0]]
        found[HEAD] = (vocabulary, hidden)
    return found


def chosen(shapes: Shapes, wanted: Sequence[str]) -> Shapes:
    """The modules that adapters of a deployment may change: those of the ``wanted`` names, all linear ones without any.

    Raises ValueError for a name that no module of the base has.
    """
    have = {name.rpartition(".")[2] for name in shapes}
    if unknown := sorted(set(wanted) - have):
        raise ValueError(f"lora_targets: the base has no {unknown[0]}; it has {', '.join(sorted(have))}")
    names = set(wanted) or have & LINEAR
    return {name: shape for name, shape in shapes.items() if name.rpartition(".")[2] in names}


def names(shapes: Shapes) -> list[str]:
    """The last names of modules, once each, as engines are told them."""
    return sorted({name.rpartition(".")[2] for name in shapes})


def _matrices(path: Path) -> list[tuple[str, tuple[int, int]]]:
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        if header_bytes > _MAX_HEADER_BYTES:
            raise ValueError(f"{path.name} is not safetensors: its header does not end")
        header = json.loads(file.read(header_bytes))
    shapes = ((name, entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    return [(name, (int(shape[0]), int(shape[1]))) for name, shape in shapes if len(shape) == 2]
