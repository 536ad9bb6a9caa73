"""Nothing that the contract says of a job is lost on the way to a noun, nor on the way back."""

import inspect
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from trivium.trainer.v1 import training_pb2
from trivium_client import job_wire, nouns, settings_wire
from trivium_client.jobs import Jobs

M = TypeVar("M", bound=Message)

_NUMBERS = {
    FieldDescriptor.CPPTYPE_BOOL: True,
    FieldDescriptor.CPPTYPE_INT32: 3,
    FieldDescriptor.CPPTYPE_INT64: 7,
    FieldDescriptor.CPPTYPE_ENUM: 2,
    FieldDescriptor.CPPTYPE_FLOAT: 0.1,
    FieldDescriptor.CPPTYPE_DOUBLE: 0.3,
}


def filled(message: M) -> M:
    """The message with a value in every field, all the way down."""
    for field in message.DESCRIPTOR.fields:
        value = _value(field)
        entry = field.message_type
        if entry is not None and entry.GetOptions().map_entry:
            getattr(message, field.name)[_value(entry.fields_by_name["key"])] = _value(entry.fields_by_name["value"])
        elif entry is not None and field.is_repeated:
            filled(getattr(message, field.name).add())
        elif entry is not None:
            filled(getattr(message, field.name))
        elif field.is_repeated:
            getattr(message, field.name).append(value)
        else:
            setattr(message, field.name, value)
    return message


def _value(field: FieldDescriptor) -> Any:
    return _NUMBERS.get(field.cpp_type, field.name)


def missing(noun: Any, message: Message, *, besides: set[str]) -> set[str]:
    """The fields of a filled message of which a noun says nothing."""
    silent: tuple[Any, ...] = ("", None, (), {}, 0, False)
    names = {field.name for field in message.DESCRIPTOR.fields} - besides
    return {name for name in names if getattr(noun, name, None) in silent}


def test_every_setting_comes_through_and_goes_back_as_it_came() -> None:
    message = filled(training_pb2.TrainingSettings())
    noun = settings_wire.settings(message)
    assert missing(noun, message, besides=set()) == set()
    assert missing(noun.lora, message.lora, besides=set()) == set()
    assert missing(noun.preference, message.preference, besides=set()) == set()
    assert settings_wire.settings_to_wire(noun) == message


def test_a_number_of_32_bits_comes_with_the_digits_that_were_written() -> None:
    settings = nouns.TrainingSettings(warmup_ratio=0.1, lora=nouns.LoraSettings(alpha=1 / 3, alpha_pattern={"q": 0.7}))
    back = settings_wire.settings(settings_wire.settings_to_wire(settings))
    assert (back.warmup_ratio, back.lora.alpha_pattern) == (0.1, {"q": 0.7})
    assert back.lora.alpha == pytest.approx(1 / 3, rel=1e-7)
    assert settings_wire.settings_to_wire(back) == settings_wire.settings_to_wire(settings)


def test_settings_that_are_not_given_are_unset_on_the_wire() -> None:
    message = settings_wire.settings_to_wire(nouns.TrainingSettings(seed=0, packing=False))
    assert message.HasField("seed")
    assert message.HasField("packing")
    assert not message.HasField("epochs")
    assert not message.lora.HasField("rank")
    assert not message.preference.HasField("beta")


def test_a_job_and_its_events_lose_nothing() -> None:
    job = filled(training_pb2.Job())
    # The resource name is tenant and id; the reason of an error stands beside it.
    assert missing(job_wire.job(job), job, besides={"name"}) == set()
    assert job_wire.job(job).error_reason == "reason"
    event = filled(training_pb2.JobEvent())
    assert missing(job_wire.job_event(event), event, besides=set()) == set()


def test_checkpoints_estimates_sweeps_and_recipes_lose_nothing() -> None:
    checkpoint = filled(training_pb2.Checkpoint())
    assert missing(job_wire.checkpoint(checkpoint), checkpoint, besides=set()) == set()
    estimate = filled(training_pb2.EstimateJobResponse())
    assert missing(job_wire.estimate(estimate), estimate, besides=set()) == set()
    sweep = filled(training_pb2.Sweep())
    assert missing(job_wire.sweep(sweep), sweep, besides=set()) == set()
    assert missing(job_wire.sweep(sweep).table[0], sweep.table[0], besides=set()) == set()
    recipe = filled(training_pb2.Recipe())
    assert missing(job_wire.recipe(recipe), recipe, besides=set()) == set()
    answer = filled(training_pb2.FillRecipeResponse())
    assert job_wire.filled_recipe(answer).order()["settings"] == settings_wire.settings(answer.job.settings)
    assert job_wire.filled_recipe(answer).notes == tuple(answer.notes)


DEADLINE = datetime(2027, 1, 2, 3, 4, tzinfo=UTC)
FIELDS = nouns.JobFields(
    base="base:house",
    alias="prod",
    settings=nouns.TrainingSettings(epochs=2),
    validation_dataset="held-out",
    start_version="desk@1",
    priority="high",
    deadline=DEADLINE,
    depends_on=["first"],
    processes=2,
    recipe="classify",
    labels={"team": "desk"},
)


def test_an_order_says_all_that_the_contract_takes() -> None:
    request = job_wire.order("desk", "pairs", **FIELDS)
    unsaid = {field.name for field in request.DESCRIPTOR.fields} - {field.name for field, _ in request.ListFields()}
    assert unsaid == {"request_id"}
    assert request.priority == training_pb2.PRIORITY_HIGH
    assert request.deadline.ToDatetime(UTC) == DEADLINE


class Heard:
    """A transport that keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def stub(self, *_: object) -> Any:
        return SimpleNamespace(CreateJob=training_pb2.CreateJobResponse, EstimateJob=training_pb2.EstimateJobResponse)

    async def call(self, service: str, answer: Any, request: Any) -> Any:
        self.sent.append(request)
        return answer()


async def test_each_field_of_an_order_is_a_parameter_with_a_type_and_reaches_the_wire() -> None:
    transport: Any = Heard()
    jobs = Jobs(transport)
    own = {"model", "dataset", "request_id"}
    for call in (jobs.create, jobs.estimate):
        parameters = inspect.signature(call).parameters
        assert set(parameters) | own == own | set(nouns.JobFields.__annotations__)
        assert all(it.annotation is not it.empty and it.kind is it.KEYWORD_ONLY for it in parameters.values())
    await jobs.create(model="desk", dataset="pairs", request_id="r", **FIELDS)
    await jobs.estimate(model="desk", dataset="pairs", **FIELDS)
    created, estimated = transport.sent
    assert created.request_id == "r"
    assert estimated.job == job_wire.order("desk", "pairs", **FIELDS)
    created.request_id = ""
    assert created == estimated.job
    await jobs.create(model="desk", dataset="pairs", request_id="r")
    assert {field.name for field, _ in transport.sent[-1].ListFields()} == {
        "model",
        "dataset",
        "settings",
        "request_id",
    }


def test_a_deadline_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        job_wire.order("desk", "pairs", deadline=datetime(2027, 1, 2))  # noqa: DTZ001  # a moment without a zone is the case


def test_axes_go_out_with_values_or_a_range() -> None:
    drawn = nouns.SweepRange(1e-4, 1e-2, logarithmic=True)
    axes = [nouns.SweepAxis("lora.rank", ("8", "16")), nouns.SweepAxis("learning_rate", range=drawn)]
    sent = job_wire.searched(axes, [nouns.TrainingSettings(epochs=2)], 3, [0.25], None)
    assert (sent.members[0].epochs, sent.random_members, list(sent.rungs)) == (2, 3, [0.25])
    assert not sent.HasField("kept_ratio")
    rank, rate = sent.axes
    assert (list(rank.values), rank.HasField("range")) == (["8", "16"], False)
    assert (rate.range.low, rate.range.high, rate.range.logarithmic) == (1e-4, 1e-2, True)


def test_an_estimate_of_a_sweep_comes_whole() -> None:
    answer = training_pb2.EstimateSweepResponse(
        members=4,
        steps=80,
        tokens=900,
        seconds=1.5,
        measured=True,
        memory_bytes=7,
        largest_member_bytes=6,
        version_bytes=5,
        fits=True,
        warnings=["few"],
    )
    assert job_wire.sweep_estimate(answer) == nouns.SweepEstimate(4, 80, 900, 1.5, True, 7, 6, 5, True, ("few",))
