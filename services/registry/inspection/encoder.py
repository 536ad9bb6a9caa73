"""What makes an encoder whole: a body that makes vectors, or scores of pairs, its tensors to the last shape, a tokenizer.

Invariant: an accepted encoder is a flat folder that transformers and the embedder read without looking anywhere
else, and that has nothing between its layers and the mean of its tokens: what it computes is in these files.
"""

from collections.abc import Mapping
from pathlib import Path

from services.registry.inspection import Unfit
from services.registry.inspection.encoder_layout import (
    RERANKER,
    check_computing,
    encoder,
    largest_exponent,
    pooler,
    positions,
    tensors,
    usable_positions,
)
from services.registry.inspection.folder import (
    CONFIG,
    INDEX,
    VOCABULARY_FILES,
    check_shapes,
    check_texts,
    check_tokenizer,
    configuration,
    held_tensors,
    is_weights,
    require_floats,
)
from services.registry.inspection.magnitudes import require_below
from services.registry.inspection.tensors import Tensor

# How long a text the encoder was trained at, as sentence-transformers keeps it.
LENGTH = "sentence_bert_config.json"
ENCODER_FILES = VOCABULARY_FILES | {CONFIG, INDEX, LENGTH}
_WHAT = "an encoder"
_LENGTH_KEY = "max_seq_length"
_TABLES = ("word_embeddings", "token_type_embeddings")


def belongs(filename: str) -> bool:
    """Whether an encoder may hold a file of this name."""
    return filename in ENCODER_FILES or is_weights(filename)


def check_encoder(
    files: Mapping[str, Path], parsed: Mapping[str, object], weights: Mapping[str, list[Tensor]]
) -> dict[str, object]:
    """Check all files of an encoder together.  Raises Unfit."""
    for name in files:
        if not belongs(name):
            raise Unfit(f"{name[:128]} is no file of an encoder")
    config = configuration(parsed, _WHAT)
    wanted = tensors(config)
    check_computing(config)
    found = held_tensors(weights, parsed.get(INDEX), _WHAT)
    counters = _counters(config)
    floats = {name: tensor for name, tensor in found.items() if name not in counters}
    require_floats(floats)
    over_first = pooler(config)
    if over_first.keys() & floats.keys():
        # Half a layer is no layer.
        wanted |= over_first
    parameters = check_shapes(wanted, floats, lambda _: False)
    _check_counters(found, counters)
    words, segments = (wanted[f"{encoder(config).prefix}embeddings.{name}.weight"] for name in _TABLES)
    # Of one segment none is asked for, and an embedder reads no pairs.
    told_apart = segments[0] if encoder(config).role == RERANKER and segments[0] > 1 else 0
    check_tokenizer(parsed, words[0], _WHAT, told_apart)
    _check_length(config, parsed)
    check_texts(files, parsed)
    return {"parameters": parameters, "role": encoder(config).role}


def require_encoder_bounded(
    files: Mapping[str, Path], parsed: Mapping[str, object], weights: Mapping[str, list[Tensor]]
) -> None:
    """Raise Unfit for numbers of a checked encoder by which a vector or a score could be infinite."""
    most = largest_exponent(configuration(parsed, _WHAT))
    for name, held in weights.items():
        require_below(name, files[name], held, most)


def _counters(config: Mapping[str, object]) -> dict[str, tuple[int, ...]]:
    """Tables that old checkpoints carry (0, 1, 2, …, or zeros); everybody computes them anew."""
    prefix = encoder(config).prefix
    return {f"{prefix}embeddings.{name}": (1, positions(config)) for name in ("position_ids", "token_type_ids")}


def _check_counters(found: Mapping[str, Tensor], counters: Mapping[str, tuple[int, ...]]) -> None:
    for name, shape in counters.items():
        if name in found and (found[name].dtype != "I64" or found[name].shape != shape):
            raise Unfit(f"{name} must be whole numbers (I64) of the shape {list(shape)}")


def _check_length(config: Mapping[str, object], parsed: Mapping[str, object]) -> None:
    told = parsed.get(LENGTH, {})
    if not isinstance(told, dict):
        raise Unfit(f"{LENGTH} is not an object")
    most = usable_positions(config)
    if told.get("do_lower_case"):
        raise Unfit(f"{LENGTH}: do_lower_case: let the tokenizer's normaliser do that, {LENGTH} is not asked for it")
    length = told.get(_LENGTH_KEY)
    if length is not None and (type(length) is not int or not 1 <= length <= most):
        raise Unfit(f"{LENGTH}: {_LENGTH_KEY} must be a whole number from 1 to {most}")
