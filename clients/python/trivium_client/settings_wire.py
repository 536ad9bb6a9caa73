"""Settings of training: protobuf to nouns and back.  Part of `wire`.

Invariant: every field of the contract is here, what is unset stays unset, and a number comes back as it was written.
"""

from __future__ import annotations

import struct
from typing import Any

from trivium.trainer.v1 import training_pb2

from trivium_client import nouns, wire

_WORDS = {
    "method": training_pb2.Method,
    "objective": training_pb2.Objective,
    "schedule": training_pb2.Schedule,
    "supervision": training_pb2.Supervision,
    "metric": training_pb2.Metric,
    "keep": training_pb2.Keep,
}
_OPTIONAL = (
    "epochs",
    "batch_rows",
    "learning_rate",
    "warmup_ratio",
    "weight_decay",
    "max_gradient_norm",
    "max_row_tokens",
    "seed",
    "checkpoint_steps",
    "max_steps",
    "beta1",
    "beta2",
    "epsilon",
    "micro_batch_tokens",
    "gradient_checkpointing",
    "packing",
    "sample_rows",
    "validation_ratio",
    "evaluation_steps",
    "early_stopping_patience",
    "early_stopping_delta",
    "generation_rows",
    "generation_tokens",
)
_OPTIONAL_LORA = ("rank", "alpha", "dropout")
_LISTS_LORA = ("target_modules", "exclude_modules", "layers")
_MAPS_LORA = ("rank_pattern", "alpha_pattern")
_OPTIONAL_PREFERENCE = ("beta", "label_smoothing", "desirable_weight", "undesirable_weight")
# Digits that tell any two numbers of 32 bits apart.
_SINGLE_DIGITS = 9


def settings_to_wire(settings: nouns.TrainingSettings) -> training_pb2.TrainingSettings:
    """To the wire; what is None stays unset.  Raises ValueError for an unknown word and what a field cannot hold."""
    message = training_pb2.TrainingSettings()
    for name, kind in _WORDS.items():
        setattr(message, name, wire.number(kind, getattr(settings, name), name))
    _fill(message, settings, _OPTIONAL)
    _fill(message.lora, settings.lora, _OPTIONAL_LORA)
    for name in _LISTS_LORA:
        getattr(message.lora, name).extend(getattr(settings.lora, name))
    for name in _MAPS_LORA:
        getattr(message.lora, name).update(getattr(settings.lora, name))
    start = settings.lora.initialisation
    message.lora.initialisation = wire.number(training_pb2.Initialisation, start, "initialisation")
    _fill(message.preference, settings.preference, _OPTIONAL_PREFERENCE)
    return message


def _fill(message: Any, noun: Any, names: tuple[str, ...]) -> None:
    for name in names:
        if (value := getattr(noun, name)) is not None:
            setattr(message, name, value)


def settings(message: training_pb2.TrainingSettings) -> nouns.TrainingSettings:
    """From the wire."""
    words: dict[str, Any] = {name: wire.word(kind, getattr(message, name)) for name, kind in _WORDS.items()}
    return nouns.TrainingSettings(
        lora=_lora(message.lora),
        preference=nouns.PreferenceSettings(**_set(message.preference, _OPTIONAL_PREFERENCE)),
        **words,
        **_set(message, _OPTIONAL),
    )


def _lora(message: training_pb2.LoraSettings) -> nouns.LoraSettings:
    lists: dict[str, Any] = {name: tuple(getattr(message, name)) for name in _LISTS_LORA}
    return nouns.LoraSettings(
        rank_pattern=dict(message.rank_pattern),
        alpha_pattern={name: _shortest(value) for name, value in message.alpha_pattern.items()},
        initialisation=wire.word(training_pb2.Initialisation, message.initialisation),
        **lists,
        **_set(message, _OPTIONAL_LORA),
    )


def _set(message: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """The fields that are set, None for the others."""
    found: dict[str, Any] = {}
    for name in names:
        value = getattr(message, name) if message.HasField(name) else None
        single = message.DESCRIPTOR.fields_by_name[name].type == message.DESCRIPTOR.fields_by_name[name].TYPE_FLOAT
        found[name] = _shortest(value) if single and value is not None else value
    return found


def _shortest(value: float) -> float:
    """A number of 32 bits with the fewest digits that mean it: 0.1, and not 0.10000000149011612."""
    for digits in range(1, _SINGLE_DIGITS):
        short = float(f"{value:.{digits}g}")
        if struct.pack("f", short) == struct.pack("f", value):
            return short
    return value
