"""Sweeps on the wire and in the domain: requests in, sweeps with their tables out.  Part of `wire`."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields

from google.protobuf.message import Message
from protovalidate import Validator
from trivium.trainer.v1 import training_pb2

from services.chassis.errors import Failure
from services.chassis.interceptors.validation import field_path
from services.trainer.job import Job, Order
from services.trainer.sweeping.axes import Axis, Point, Range, expand
from services.trainer.sweeping.estimating import SweepEstimate
from services.trainer.sweeping.searchable import invalid, searchable
from services.trainer.sweeping.sweep import (
    DEFAULT_KEPT_RATIO,
    Asked,
    Line,
    Member,
    Sweep,
    SweepState,
    differences,
    table,
)
from services.trainer.wire import renamed, timestamp
from services.trainer.wire_jobs import STATES
from services.trainer.wire_settings import written
from services.trainer.wire_values import put

_STATES = {state: training_pb2.SweepState.Value(f"SWEEP_STATE_{state.name}") for state in SweepState}


def members(request: training_pb2.CreateSweepRequest, rules: Validator) -> list[training_pb2.CreateJobRequest]:
    """The request of each member.

    Raises FIELD_INVALID for axes that make none, for values outside the `rules`, and for what nothing would come of.
    """
    _require_honoured(request)
    if request.members:
        return [_with(request.job, settings) for settings in request.members]
    return [_moved(request.job, point, rules) for point in _points(request)]


def asked(request: training_pb2.CreateSweepRequest, orders: Sequence[Order]) -> Asked:
    """What a sweep is asked for, its members' orders being these."""
    points = differences([order.settings for order in orders]) if request.members else _points(request)
    return Asked(
        orders=tuple(orders),
        points=tuple(points),
        rungs=tuple(written(share) for share in request.rungs),
        kept_ratio=written(request.kept_ratio) if request.HasField("kept_ratio") else DEFAULT_KEPT_RATIO,
    )


@contextmanager
def at_member(request: training_pb2.CreateSweepRequest, place: int) -> Iterator[None]:
    """Inside the block failures name fields of a member's order; let them name those of the sweep's request."""
    try:
        yield
    except Failure as failure:
        if failure.field is None:
            raise
        settings = failure.field.removeprefix("settings.")
        own = request.members and settings != failure.field
        raise renamed(failure, f"members[{place}].{settings}" if own else f"job.{failure.field}") from failure


def estimate(value: SweepEstimate) -> training_pb2.EstimateSweepResponse:
    """An estimate on the wire."""
    return training_pb2.EstimateSweepResponse(**{field.name: getattr(value, field.name) for field in fields(value)})


def sweep(value: Sweep, job: Callable[[Job], training_pb2.Job]) -> training_pb2.Sweep:
    """A sweep on the wire, `job` saying how one of its jobs is."""
    return training_pb2.Sweep(
        sweep=value.sweep,
        members=[_member_job(member, job) for member in value.members],
        state=_STATES[value.state],
        table=[_line(line) for line in table(value)],
        best=value.best,
        version=value.version,
        create_time=timestamp(value.create_time),
        end_time=timestamp(value.end_time),
        message=value.message,
    )


def _member_job(member: Member, job: Callable[[Job], training_pb2.Job]) -> training_pb2.Job:
    answer = job(member.job)
    answer.waiting_reason = answer.waiting_reason or member.why_waits
    return answer


def _line(value: Line) -> training_pb2.SweepMember:
    member = value.member
    return training_pb2.SweepMember(
        job=member.job.job,
        values=dict(member.point),
        state=STATES[member.job.state],
        ended_at_rung=member.pruned_at_rung,
        step=member.job.progress.step,
        evaluation=value.evaluation,
        rank=value.place,
    )


def _require_honoured(request: training_pb2.CreateSweepRequest) -> None:
    if request.job.request_id:
        raise invalid("job.request_id", "members have no request of their own: give the sweep's request_id")
    if request.HasField("kept_ratio") and not request.rungs and written(request.kept_ratio) != DEFAULT_KEPT_RATIO:
        raise invalid("kept_ratio", "without rungs all members go on to the end: give rungs, or leave it out")
    if not request.members:
        return
    if request.axes:
        raise invalid("members", "give either axes or members, not both")
    if request.random_members:
        raise invalid("random_members", "members are drawn from axes, and these are written out: leave it out")
    if any(field.message_type is None or value.ByteSize() for field, value in request.job.settings.ListFields()):
        problem = "members are written out whole: put what they share into each of them, or give axes around it"
        raise invalid("job.settings", problem)


def _points(request: training_pb2.CreateSweepRequest) -> list[Point]:
    axes = [
        Axis(
            axis.setting,
            tuple(axis.values),
            Range(axis.range.low, axis.range.high, axis.range.logarithmic) if axis.HasField("range") else None,
        )
        for axis in request.axes
    ]
    return expand(axes, request.random_members, request.job.settings.seed)


def _moved(job: training_pb2.CreateJobRequest, point: Point, rules: Validator) -> training_pb2.CreateJobRequest:
    settings = training_pb2.TrainingSettings()
    settings.CopyFrom(job.settings)
    if any(name == "method" and searchable(name).parse(text) == "FULL" for name, text in point):
        # A sweep may compare LoRA with all parameters: the job's settings of an adapter are for those who make one.
        settings.ClearField("lora")
    for name, text in point:
        axis = searchable(name)
        try:
            put(settings, axis.field, axis.parse(text))
        except ValueError as error:
            raise invalid("axes", f"{name} cannot be {text}: {error}") from None
    _require(settings, point, rules)
    return _with(job, settings)


def _require(settings: Message, point: Point, rules: Validator) -> None:
    for violation in rules.collect_violations(settings):
        said = violation.proto
        path = field_path(said.field)
        values = ", ".join(f"{name} {text}" for name, text in point if name == path) or path
        raise invalid("axes", f"{values}: {said.message or said.rule_id}")


def _with(job: training_pb2.CreateJobRequest, settings: training_pb2.TrainingSettings) -> training_pb2.CreateJobRequest:
    member = training_pb2.CreateJobRequest()
    member.CopyFrom(job)
    member.settings.CopyFrom(settings)
    return member
