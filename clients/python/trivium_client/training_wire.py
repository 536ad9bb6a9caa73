"""Datasets, settings and jobs: protobuf to nouns and back.  Part of `wire`."""

from __future__ import annotations

from typing import Any

from trivium.trainer.v1 import dataset_pb2, training_pb2

from trivium_client import nouns, wire

_OPTIONAL_SETTINGS = (
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
)


_OPTIONAL_LORA = ("rank", "alpha", "dropout")


def dataset(message: dataset_pb2.Dataset) -> nouns.Dataset:
    """From the wire."""
    return nouns.Dataset(
        dataset=message.dataset,
        digest=message.digest,
        filename=message.filename,
        format=wire.word(dataset_pb2.DatasetFormat, message.format),
        rows=message.rows,
        size_bytes=message.size_bytes,
        tokens=message.tokens,
        supervised_tokens=message.supervised_tokens,
        max_row_tokens=message.max_row_tokens,
        create_time=wire.time(message.create_time),
    )


def problem(message: dataset_pb2.DatasetProblem) -> nouns.DatasetProblem:
    """From the wire."""
    return nouns.DatasetProblem(line=message.line, field=message.field, message=message.message, fatal=message.fatal)


def settings_to_wire(settings: nouns.TrainingSettings) -> training_pb2.TrainingSettings:
    """To the wire; what is None stays unset.  Raises ValueError for an unknown word."""
    message = training_pb2.TrainingSettings(
        method=wire.number(training_pb2.Method, settings.method, "method"),
        objective=wire.number(training_pb2.Objective, settings.objective, "objective"),
        schedule=wire.number(training_pb2.Schedule, settings.schedule, "schedule"),
        lora=training_pb2.LoraSettings(target_modules=settings.lora.target_modules),
    )
    for name in _OPTIONAL_SETTINGS:
        if (value := getattr(settings, name)) is not None:
            setattr(message, name, value)
    for name in _OPTIONAL_LORA:
        if (value := getattr(settings.lora, name)) is not None:
            setattr(message.lora, name, value)
    return message


def settings(message: training_pb2.TrainingSettings) -> nouns.TrainingSettings:
    """From the wire."""
    chosen: dict[str, Any] = {name: _set(message, name) for name in _OPTIONAL_SETTINGS}
    lora: dict[str, Any] = {name: _set(message.lora, name) for name in _OPTIONAL_LORA}
    return nouns.TrainingSettings(
        method=wire.word(training_pb2.Method, message.method),
        objective=wire.word(training_pb2.Objective, message.objective),
        schedule=wire.word(training_pb2.Schedule, message.schedule),
        lora=nouns.LoraSettings(target_modules=tuple(message.lora.target_modules), **lora),
        **chosen,
    )


def _set(message: Any, name: str) -> Any:
    return getattr(message, name) if message.HasField(name) else None


def job(message: training_pb2.Job) -> nouns.Job:
    """From the wire."""
    return nouns.Job(
        job=message.job,
        state=wire.word(training_pb2.JobState, message.state),
        model=message.model,
        alias=message.alias,
        dataset=message.dataset,
        dataset_digest=message.dataset_digest,
        base_digest=message.base_digest,
        settings=settings(message.settings),
        step=message.step,
        total_steps=message.total_steps,
        trained_tokens=message.trained_tokens,
        loss=message.loss,
        version=message.version,
        error_reason=message.error.reason,
        error=message.error.message,
        attempts=message.attempts,
        create_time=wire.time(message.create_time),
        start_time=wire.time(message.start_time),
        end_time=wire.time(message.end_time),
        estimated_end_time=wire.time(message.estimated_end_time),
    )


def job_event(message: training_pb2.JobEvent) -> nouns.JobEvent:
    """From the wire."""
    return nouns.JobEvent(
        sequence=message.sequence,
        kind=wire.word(training_pb2.JobEventKind, message.kind),
        state=wire.word(training_pb2.JobState, message.state),
        step=message.step,
        total_steps=message.total_steps,
        loss=message.loss,
        learning_rate=message.learning_rate,
        gradient_norm=message.gradient_norm,
        trained_tokens=message.trained_tokens,
        message=message.message,
        create_time=wire.time(message.create_time),
    )
