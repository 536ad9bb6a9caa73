"""Jobs, their events, estimates, sweeps and recipes: protobuf to nouns, and orders to protobuf.  Part of `wire`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar, Unpack

from google.protobuf.timestamp_pb2 import Timestamp
from trivium.trainer.v1 import training_pb2

from trivium_client import nouns, wire
from trivium_client.settings_wire import settings, settings_to_wire

T = TypeVar("T")


def order(model: str, dataset: str, **fields: Unpack[nouns.JobFields]) -> training_pb2.CreateJobRequest:
    """An order to the wire.  Raises ValueError for an unknown word, and for a deadline without a time zone."""
    request = training_pb2.CreateJobRequest(
        model=model,
        dataset=dataset,
        base=fields.get("base", ""),
        settings=settings_to_wire(fields.get("settings") or nouns.TrainingSettings()),
        alias=fields.get("alias", ""),
        validation_dataset=fields.get("validation_dataset", ""),
        start_version=fields.get("start_version", ""),
        priority=wire.number(training_pb2.Priority, fields.get("priority", ""), "priority"),
        depends_on=fields.get("depends_on", ()),
        processes=fields.get("processes", 0),
        recipe=fields.get("recipe", ""),
        labels=fields.get("labels", {}),
    )
    if deadline := fields.get("deadline"):
        if deadline.tzinfo is None:
            raise ValueError("the deadline has no time zone; say datetime.now(UTC) + timedelta(…), or .astimezone()")
        stamp = Timestamp()
        stamp.FromDatetime(deadline)
        request.deadline.CopyFrom(stamp)
    return request


def job(message: training_pb2.Job) -> nouns.Job:
    """From the wire."""
    return nouns.Job(
        job=message.job,
        state=wire.word(training_pb2.JobState, message.state),
        model=message.model,
        alias=message.alias,
        dataset=message.dataset,
        dataset_digest=message.dataset_digest,
        base=message.base,
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
        validation_dataset=message.validation_dataset,
        validation_dataset_digest=message.validation_dataset_digest,
        start_version=message.start_version,
        priority=wire.word(training_pb2.Priority, message.priority),
        deadline=wire.time(message.deadline),
        depends_on=tuple(message.depends_on),
        processes=message.processes,
        sweep=message.sweep,
        recipe=message.recipe,
        queue_position=message.queue_position,
        waiting_reason=message.waiting_reason,
        estimated_start_time=wire.time(message.estimated_start_time),
        tokens_per_second=message.tokens_per_second,
        gradient_norm=message.gradient_norm,
        learning_rate=message.learning_rate,
        memory_bytes=message.memory_bytes,
        evaluation=_by_name(message.evaluation),
        best_step=message.best_step,
        warnings=tuple(message.warnings),
        labels=dict(message.labels),
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
        evaluation=_by_name(message.evaluation),
        tokens_per_second=message.tokens_per_second,
        memory_bytes=message.memory_bytes,
    )


def checkpoint(message: training_pb2.Checkpoint) -> nouns.Checkpoint:
    """From the wire."""
    return nouns.Checkpoint(
        step=message.step,
        digest=message.digest,
        size_bytes=message.size_bytes,
        create_time=wire.time(message.create_time),
    )


def estimate(message: training_pb2.EstimateJobResponse) -> nouns.JobEstimate:
    """From the wire."""
    return nouns.JobEstimate(
        tokens=message.tokens,
        seconds=message.seconds,
        memory_bytes=message.memory_bytes,
        steps=message.steps,
        trainable_parameters=message.trainable_parameters,
        version_bytes=message.version_bytes,
        memory_parts_bytes=_by_name(message.memory_parts_bytes),
        fits=message.fits,
        warnings=tuple(message.warnings),
        tokens_per_second=message.tokens_per_second,
        settings=settings(message.settings),
    )


def searched(
    axes: Iterable[nouns.SweepAxis],
    members: Iterable[nouns.TrainingSettings],
    random_members: int,
    rungs: Iterable[float],
    kept_ratio: float | None,
) -> training_pb2.CreateSweepRequest:
    """What a sweep searches over, and how, to the wire; its job is left out."""
    return training_pb2.CreateSweepRequest(
        members=[settings_to_wire(member) for member in members],
        axes=[
            training_pb2.SweepAxis(setting=axis.setting, values=axis.values, range=_range_to_wire(axis.range))
            for axis in axes
        ],
        random_members=random_members,
        rungs=rungs,
        kept_ratio=kept_ratio,
    )


def _range_to_wire(drawn: nouns.SweepRange | None) -> training_pb2.SweepRange | None:
    if drawn is None:
        return None
    return training_pb2.SweepRange(low=drawn.low, high=drawn.high, logarithmic=drawn.logarithmic)


def sweep_estimate(message: training_pb2.EstimateSweepResponse) -> nouns.SweepEstimate:
    """From the wire."""
    return nouns.SweepEstimate(
        members=message.members,
        steps=message.steps,
        tokens=message.tokens,
        seconds=message.seconds,
        measured=message.measured,
        memory_bytes=message.memory_bytes,
        largest_member_bytes=message.largest_member_bytes,
        version_bytes=message.version_bytes,
        fits=message.fits,
        warnings=tuple(message.warnings),
    )


def sweep(message: training_pb2.Sweep) -> nouns.Sweep:
    """From the wire."""
    return nouns.Sweep(
        sweep=message.sweep,
        state=wire.word(training_pb2.SweepState, message.state),
        best=message.best,
        version=message.version,
        message=message.message,
        table=tuple(_member(member) for member in message.table),
        members=tuple(job(member) for member in message.members),
        create_time=wire.time(message.create_time),
        end_time=wire.time(message.end_time),
    )


def _member(message: training_pb2.SweepMember) -> nouns.SweepMember:
    return nouns.SweepMember(
        job=message.job,
        values=_by_name(message.values),
        state=wire.word(training_pb2.JobState, message.state),
        ended_at_rung=message.ended_at_rung,
        step=message.step,
        evaluation=_by_name(message.evaluation),
        rank=message.rank,
    )


def recipe(message: training_pb2.Recipe) -> nouns.Recipe:
    """From the wire."""
    return nouns.Recipe(
        recipe=message.recipe,
        title=message.title,
        description=message.description,
        dataset=message.dataset,
        choices=_by_name(message.choices),
        default_choice=message.default_choice,
        example_row=message.example_row,
        settings=settings(message.settings),
    )


def filled_recipe(message: training_pb2.FillRecipeResponse) -> nouns.FilledRecipe:
    """From the wire."""
    return nouns.FilledRecipe(
        model=message.job.model,
        dataset=message.job.dataset,
        recipe=message.job.recipe,
        settings=settings(message.job.settings),
        notes=tuple(message.notes),
        distinct_answers=message.distinct_answers,
    )


def _by_name(values: Mapping[str, T]) -> dict[str, T]:
    """A map in the order of its names: on the wire it has none."""
    return dict(sorted(values.items()))
