"""What a solo job takes in memory, by arithmetic from its base's configuration, before anything is spent.

Invariant: the parts are said by name, so that a refusal shows its arithmetic.
"""

from services.trainer.needs import Architecture, adapted, adapter_parameters, keeps_best, pass_tokens
from services.trainer.settings import Method, Settings

# Python, torch, transformers and TRL loaded, before any weight: 0.49 GiB measured.
_PROCESS_BYTES = 560 * 1024**2
_FLOAT_BYTES, _HALF_BYTES = 4, 2
# NF4: half a byte, an 8-bit scale for 64 weights, and for 256 of these a scale of theirs in fp32.
_QUANTISED_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
# Both moments of AdamW.
_MOMENTS = 2
# Held between forward and backward for one token in one layer, in numbers of the hidden and the intermediate size:
# inputs of norms and products, queries, keys and values as they are and as attention takes them; gate, its activation,
# up and their product.  Measured with SmolLM2-135M: 20 to 22 thousand numbers, these make 20.7.
_HELD_HIDDEN, _HELD_INTERMEDIATE = 20, 6
# An adapter's path beside each product is computed in fp32: a copy of its input and its result, which DoRA scales, as
# it does the base's.  Measured with DoRA: 19 thousand numbers, these make 18.4.
_PATH_HIDDEN, _PATH_INTERMEDIATE = 10, 3
_SCALED_HIDDEN, _SCALED_INTERMEDIATE = 6, 3
# TRL's head takes so many rows by so many words at once: as they are, in fp32, their exponentials and two masks.
_HEAD_ROWS, _HEAD_WORDS, _HEAD_COPIES = 4096, 32768, 5


def solo_parts(
    base: Architecture, settings: Settings, processes: int = 1, *, validation_dataset: bool = False
) -> dict[str, int]:
    """Bytes of a job's process by part, at its peak; of each of its ``processes``, which divide what is trained.

    ``validation_dataset`` says whether one is named.
    A checkpoint is written beside the steps that follow it, of copies.  References are numbers by row, and not among the
    parts.
    """
    full = settings.method is Method.FULL
    trained = trained_parameters(base, settings)
    kept = trained * (_HALF_BYTES if full else _FLOAT_BYTES)
    best = kept if keeps_best(settings, validation_dataset=validation_dataset) else 0
    parts = {
        "process": _PROCESS_BYTES,
        "base": 0 if full else _frozen_bytes(base, settings.method),
        "trained weights": trained * _FLOAT_BYTES // processes,
        "gradients": trained * _FLOAT_BYTES // processes,
        "moments": trained * _FLOAT_BYTES * _MOMENTS // processes,
        # With the best weights of before, where better ones were found while it is written.  Of several processes in the
        # first alone, which any of them may be: it puts together what is divided.
        "copies for a checkpoint": trained * _FLOAT_BYTES * (1 + _MOMENTS) + best,
        "best weights so far": best,
        "activations": _activation_bytes(base, settings),
        "output head": _head_bytes(base, settings),
    }
    return {name: size for name, size in parts.items() if size}


def trained_parameters(base: Architecture, settings: Settings) -> int:
    """Numbers that a job of any method trains."""
    if settings.method is Method.FULL:
        return base.parameters
    # DoRA has one more for every output of an adapted layer.
    magnitudes = sum(layer.outputs for layer in adapted(base, settings)) if settings.method is Method.DORA else 0
    return adapter_parameters(base, settings) + magnitudes


def _frozen_bytes(base: Architecture, method: Method) -> int:
    if method is not Method.QLORA:
        return base.parameters * _HALF_BYTES
    linear = base.layers * sum(inputs * outputs for inputs, outputs in base.linears.values())
    # The largest layer is whole again while it is multiplied by.
    whole = max(inputs * outputs for inputs, outputs in base.linears.values()) * _HALF_BYTES
    return int(linear * _QUANTISED_BYTES) + (base.parameters - linear) * _HALF_BYTES + whole


def _activation_bytes(base: Architecture, settings: Settings) -> int:
    full = settings.method is Method.FULL
    held = _HELD_HIDDEN * base.hidden_size + _HELD_INTERMEDIATE * base.intermediate_size
    layer = held * (_FLOAT_BYTES if full else _HALF_BYTES)
    if not full:
        layer += (_PATH_HIDDEN * base.hidden_size + _PATH_INTERMEDIATE * base.intermediate_size) * _FLOAT_BYTES
    if settings.method is Method.DORA:
        layer += (_SCALED_HIDDEN * base.hidden_size + _SCALED_INTERMEDIATE * base.intermediate_size) * _FLOAT_BYTES
    if settings.gradient_checkpointing:
        # The layer that is computed again, and what enters each of the others.
        return pass_tokens(settings) * (
            layer + base.layers * base.hidden_size * (_FLOAT_BYTES if full else _HALF_BYTES)
        )
    return pass_tokens(settings) * layer * base.layers


def _head_bytes(base: Architecture, settings: Settings) -> int:
    tile = min(_HEAD_ROWS, pass_tokens(settings)) * min(_HEAD_WORDS, base.vocabulary) * _FLOAT_BYTES * _HEAD_COPIES
    # Where the head is trained its gradient is summed apart, and added to that of the embedding.
    return tile + (base.vocabulary * base.hidden_size * _FLOAT_BYTES if settings.method is Method.FULL else 0)
