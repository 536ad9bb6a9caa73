"""Settings on the wire and in the domain.

Invariant: what goes out says every default that was filled in, and comes back in as the same settings.
"""

import struct
from typing import Any

from google.protobuf.message import Message
from trivium.trainer.v1 import training_pb2

from services.trainer.settings import (
    ALL_LINEAR,
    Initialisation,
    Keep,
    Method,
    Metric,
    Objective,
    Schedule,
    Settings,
    Supervision,
    default_alpha,
    default_learning_rate,
    default_metric,
)

# Enumerations: the field, its domain type, its wire type and the prefix of the wire's names.
_ENUMS = (
    ("method", Method, training_pb2.Method, "METHOD_"),
    ("objective", Objective, training_pb2.Objective, "OBJECTIVE_"),
    ("schedule", Schedule, training_pb2.Schedule, "SCHEDULE_"),
    ("supervision", Supervision, training_pb2.Supervision, "SUPERVISION_"),
    ("keep", Keep, training_pb2.Keep, "KEEP_"),
    ("metric", Metric, training_pb2.Metric, "METRIC_"),
)
# Fields that carry over under their own names when they are set.
_PLAIN = (
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
_LORA = ("rank", "dropout")
_PREFERENCE = ("beta", "label_smoothing", "desirable_weight", "undesirable_weight")
# 0 means "none" or "all" in the domain and is no value on the wire.
_UNSET_WHEN_ZERO = frozenset(
    {"max_steps", "sample_rows", "evaluation_steps", "early_stopping_patience", "generation_rows"}
)


def settings(
    given: training_pb2.TrainingSettings, hidden_size: int, model_type: str = "", *, held_out: bool = False
) -> Settings:
    """What was asked for, every default filled in for a base of this width and type.

    `held_out`: whether there are rows to evaluate on besides those that the settings hold out.
    """
    chosen = _enums(given)
    method = chosen.get("method", Method.LORA)
    objective = chosen.get("objective", Objective.SUPERVISED)
    chosen.setdefault("metric", default_metric(objective))
    chosen.setdefault("keep", Keep.BEST if held_out or given.validation_ratio else Keep.LAST)
    chosen["learning_rate"] = default_learning_rate(method, objective, hidden_size, model_type)
    chosen |= as_written(given, _PLAIN)
    chosen |= as_written(given.preference, _PREFERENCE)
    return Settings(**chosen, **_lora(given.lora, method))


def said(given: training_pb2.TrainingSettings) -> frozenset[str]:
    """Those of the fields of `Settings` that shape an adapter which were given: the method, and LoRA's own."""
    method = {"method"} if given.method else set()
    return frozenset(method | {field.name for field, _ in given.lora.ListFields()})


def _enums(given: training_pb2.TrainingSettings) -> dict[str, Any]:
    return {
        field: kind[wire.Name(getattr(given, field)).removeprefix(prefix)]
        for field, kind, wire, prefix in _ENUMS
        if getattr(given, field)
    }


def as_written(message: Message, names: tuple[str, ...]) -> dict[str, Any]:
    """The fields among `names` that the caller set, as `written`."""
    return {
        field.name: written(value) if field.type == field.TYPE_FLOAT else value
        for field, value in message.ListFields()
        if field.name in names
    }


def written(single: float) -> float:
    """The number that somebody wrote who meant this one of single precision: 0.05, and not 0.05000000074505806."""
    bits = struct.pack("f", single)
    # Nine digits tell all of them apart.
    return next(near for digits in range(1, 10) if struct.pack("f", near := float(f"{single:.{digits}g}")) == bits)


def _lora(given: training_pb2.LoraSettings, method: Method) -> dict[str, Any]:
    chosen = as_written(given, _LORA)
    rank = chosen.get("rank", Settings().rank)
    chosen["alpha"] = written(given.alpha if given.HasField("alpha") else default_alpha(method, rank))
    # All of them, and so also beside others.
    named = () if ALL_LINEAR in given.target_modules else given.target_modules
    chosen["target_modules"] = tuple(named)
    chosen["exclude_modules"] = tuple(given.exclude_modules)
    chosen["layers"] = tuple(given.layers)
    chosen["rank_pattern"] = tuple(sorted(given.rank_pattern.items()))
    chosen["alpha_pattern"] = tuple((name, written(alpha)) for name, alpha in sorted(given.alpha_pattern.items()))
    if given.initialisation:
        name = training_pb2.Initialisation.Name(given.initialisation).removeprefix("INITIALISATION_")
        chosen["initialisation"] = Initialisation[name]
    return chosen


def wire_settings(value: Settings) -> training_pb2.TrainingSettings:
    """Settings on the wire, complete."""
    plain: dict[str, Any] = {
        name: getattr(value, name) for name in _PLAIN if getattr(value, name) or name not in _UNSET_WHEN_ZERO
    }
    enums: dict[str, Any] = {
        field: wire.Value(f"{prefix}{getattr(value, field).name}") for field, _, wire, prefix in _ENUMS
    }
    answer = training_pb2.TrainingSettings(**plain, **enums)
    if value.method.makes_adapter:
        answer.lora.CopyFrom(
            training_pb2.LoraSettings(
                rank=value.rank,
                alpha=value.alpha,
                dropout=value.dropout,
                target_modules=value.target_modules,
                exclude_modules=value.exclude_modules,
                layers=value.layers,
                rank_pattern=dict(value.rank_pattern),
                alpha_pattern=dict(value.alpha_pattern),
                initialisation=training_pb2.Initialisation.Value(f"INITIALISATION_{value.initialisation.name}"),
            )
        )
    if value.objective.preference:
        preference = {name: getattr(value, name) for name in _PREFERENCE}
        answer.preference.CopyFrom(training_pb2.PreferenceSettings(**preference))
    return answer
