"""Sweeps that cross the wire: each member's request is what a caller would have written for that job alone."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from protovalidate import Validator
from trivium.trainer.v1 import training_pb2

from services.chassis.errors import Failure, Reason
from services.trainer import wire_sweeps
from services.trainer.settings import Settings
from services.trainer.sweeping.searchable import Kind, searchables
from services.trainer.sweeping.sweep import differences
from services.trainer.wire_settings import settings

RULES = Validator()
JOB = training_pb2.CreateJobRequest(
    model="m", dataset="d", settings=training_pb2.TrainingSettings(epochs=2, validation_ratio=0.1, seed=7)
)
AXES = [training_pb2.SweepAxis(setting="lora.rank", values=["4"])]
UUID = "0190a8c4-0000-7000-8000-000000000000"
BARE = training_pb2.CreateJobRequest(model="m", dataset="d")


def request(*axes: tuple[str, list[str]], **fields: object) -> training_pb2.CreateSweepRequest:
    made = [training_pb2.SweepAxis(setting=name, values=values) for name, values in axes]
    return training_pb2.CreateSweepRequest(job=JOB, axes=made, **fields)  # type: ignore[arg-type]  # fields of the request


def refused(wanted: training_pb2.CreateSweepRequest) -> str:
    with pytest.raises(Failure) as raised:
        wire_sweeps.members(wanted, RULES)
    return raised.value.sentence


def test_a_member_is_the_job_with_its_own_values_and_their_defaults() -> None:
    members = wire_sweeps.members(request(("lora.rank", ["4", "64"]), ("schedule", ["cosine"])), RULES)
    first, second = (settings(member.settings, 576) for member in members)
    assert (first.rank, first.alpha, second.rank, second.alpha) == (4, 8.0, 64, 128.0)
    assert first.schedule.name == "COSINE"
    assert (first.epochs, first.seed, members[0].model) == (2, 7, "m")


@pytest.mark.parametrize("name", searchables())
def test_every_setting_that_can_be_searched_has_its_place_on_the_wire(name: str) -> None:
    axis = searchables()[name]
    texts = {
        Kind.INTEGER: "9",
        Kind.NUMBER: "0.25",
        Kind.SWITCH: "true",
        Kind.NAMES: "a,b",
        Kind.INTEGERS: "1,2",
        Kind.NAME: axis.names[0] if axis.names else "",
    }
    if name == "method":
        texts[Kind.NAME] = "RSLORA"
    (member,) = wire_sweeps.members(request((name, [texts[axis.kind]])), RULES)
    found = getattr(settings(member.settings, 576), axis.field)
    assert getattr(found, "name", found) == axis.parse(texts[axis.kind])


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("lora.rank", "0", "lora.rank 0: "),
        ("learning_rate", "2", "learning_rate 2: "),
        ("epochs", "99999999999", "epochs cannot be 99999999999"),
        ("lora.rank", "x", "lora.rank takes a whole number"),
        ("preference.beta", "11", "preference.beta 11: "),
    ],
)
def test_a_value_that_no_job_could_have_is_refused_by_its_name(name: str, value: str, words: str) -> None:
    assert words in refused(request((name, [value])))


def test_a_sweep_over_methods_gives_the_settings_of_an_adapter_to_those_who_make_one() -> None:
    wanted = request(("method", ["lora", "FULL"]))
    wanted.job.settings.lora.rank = 8
    adapter, whole = wire_sweeps.members(wanted, RULES)
    assert (adapter.settings.lora.rank, whole.settings.HasField("lora")) == (8, False)
    # What the sweep itself tries is a member's own, and contradicts as in an order of its own.
    tried = request(("method", ["FULL"]), ("lora.rank", ["4"]))
    assert wire_sweeps.members(tried, RULES)[0].settings.lora.rank == 4


def test_members_are_written_out_or_made_of_axes_and_not_both() -> None:
    both = request(("lora.rank", ["4"]), members=[training_pb2.TrainingSettings()])
    assert "either axes or members" in refused(both)
    assert "give at least one setting" in refused(request())


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("job.request_id", {"axes": AXES, "job": training_pb2.CreateJobRequest(request_id=UUID)}),
        ("random_members", {"members": [training_pb2.TrainingSettings()], "random_members": 2}),
        ("kept_ratio", {"axes": AXES, "kept_ratio": 0.25}),
        ("job.settings", {"members": [training_pb2.TrainingSettings()], "job": JOB}),
    ],
)
def test_what_a_sweep_would_pass_over_is_refused_by_name(path: str, wanted: dict[str, Any]) -> None:
    with pytest.raises(Failure) as raised:
        wire_sweeps.members(training_pb2.CreateSweepRequest(**wanted), RULES)
    assert (raised.value.reason, raised.value.field) == (Reason.FIELD_INVALID, path)


def test_what_a_sweep_says_as_its_defaults_do_is_taken() -> None:
    # As the SDK sends settings of which none is said.
    empty = training_pb2.TrainingSettings(lora=training_pb2.LoraSettings())
    job = training_pb2.CreateJobRequest(model="m", dataset="d", settings=empty)
    written = training_pb2.CreateSweepRequest(job=job, members=[training_pb2.TrainingSettings()], kept_ratio=0.5)
    assert len(wire_sweeps.members(written, RULES)) == 1


def test_members_that_are_written_out_are_told_apart_by_what_differs() -> None:
    written = [training_pb2.TrainingSettings(epochs=epochs, packing=epochs > 1) for epochs in (1, 2)]
    wanted = training_pb2.CreateSweepRequest(job=BARE, members=written)
    members = wire_sweeps.members(wanted, RULES)
    assert [member.settings.epochs for member in members] == [1, 2]
    orders = [settings(member.settings, 576) for member in members]
    assert all(isinstance(order, Settings) for order in orders)
    points = differences(orders)
    assert points == [(("epochs", "1"), ("packing", "false")), (("epochs", "2"), ("packing", "true"))]


@given(st.integers(0, 2**40), st.integers(1, 20))
def test_random_members_are_drawn_by_the_jobs_seed(seed: int, count: int) -> None:
    wanted = request(random_members=count)
    wanted.job.settings.seed = seed
    wanted.axes.add(setting="learning_rate", range=training_pb2.SweepRange(low=1e-5, high=1e-2, logarithmic=True))
    rates = [member.settings.learning_rate for member in wire_sweeps.members(wanted, RULES)]
    assert rates == [member.settings.learning_rate for member in wire_sweeps.members(wanted, RULES)]
    assert len(set(rates)) == count
