"""What makes a full model whole: a configuration that is served, its tensors to the last shape, a tokenizer.

Invariant: an accepted model is a folder that transformers and vLLM read without looking anywhere else:
every file has a name that they know, and the weights are what the configuration says.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from services.registry.inspection import Unfit
from services.registry.inspection.folder import (
    CONFIG,
    INDEX,
    TEMPLATE,
    VOCABULARY_FILES,
    check_shapes,
    check_texts,
    check_tokenizer,
    configuration,
    held_tensors,
    is_weights,
    require_floats,
)
from services.registry.inspection.layout import check_positions, tensors
from services.registry.inspection.tensors import Tensor

# What a full model may bring beside its weights; a model folder holds other things too, which nobody reads.
TOKENIZER_FILES = VOCABULARY_FILES | {TEMPLATE, "chat_template.json"}
FULL_FILES = TOKENIZER_FILES | {CONFIG, "generation_config.json", INDEX}
_WHAT = "a full model"
# Old checkpoints carry this table; everybody computes it anew.
_IGNORED = re.compile(r"^model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq$")


def belongs(filename: str) -> bool:
    """Whether a full model may hold a file of this name."""
    return filename in FULL_FILES or is_weights(filename)


def check_full(
    files: Mapping[str, Path], parsed: Mapping[str, object], weights: Mapping[str, list[Tensor]]
) -> dict[str, object]:
    """Check all files of a full model together.  Raises Unfit."""
    for name in files:
        if not belongs(name):
            raise Unfit(f"{name[:128]} is no file of a full model")
    config = configuration(parsed, _WHAT)
    wanted = tensors(config)
    check_positions(config)
    found = held_tensors(weights, parsed.get(INDEX), _WHAT)
    require_floats(found)
    embedding = wanted["model.embed_tokens.weight"]

    def ignored(tensor: Tensor) -> bool:
        tied_head = tensor.name == "lm_head.weight" and tensor.shape == embedding
        return tied_head or _IGNORED.match(tensor.name) is not None

    parameters = check_shapes(wanted, found, ignored)
    check_tokenizer(parsed, embedding[0], _WHAT)
    check_texts(files, parsed)
    return {"parameters": parameters}
