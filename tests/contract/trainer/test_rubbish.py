"""Rubbish in every field of every call of the trainer's: refused in words, never a fault of ours, and nothing is left."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from trivium.trainer.v1 import dataset_pb2, training_pb2

from services.chassis.status import from_rpc_error
from tests.contract.trainer.deployment import Caller
from tests.unit.trainer.tiny import rows_text

METHODS: dict[str, MethodDescriptor] = {
    method.name: method
    for file in (training_pb2.DESCRIPTOR, dataset_pb2.DESCRIPTOR)
    for service in file.services_by_name.values()
    for method in service.methods
}
# What speaks for a fault of the service's own.
FAULTS = {"INTERNAL", "UNKNOWN", "DATA_LOSS", "UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"}
# Settings and orders nest so deep.
_DEPTH = 4
_WHOLE, _REAL = FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_DOUBLE
RUBBISH: dict[int, list[Any]] = {
    FieldDescriptor.CPPTYPE_STRING: ["\x00", " ", "../../etc/passwd", "%s{0}\u202e", "𝕏" * 300, "a" * 100_000],
    FieldDescriptor.CPPTYPE_INT32: [-1, 2**31 - 1, -(2**31)],
    FieldDescriptor.CPPTYPE_UINT32: [2**32 - 1],
    FieldDescriptor.CPPTYPE_UINT64: [2**64 - 1],
    _WHOLE: [-1, 2**63 - 1, -(2**63)],
    FieldDescriptor.CPPTYPE_FLOAT: [float("nan"), float("inf"), -1.0],
    _REAL: [float("nan"), float("inf"), float("-inf"), -1.0, 1e308],
    FieldDescriptor.CPPTYPE_BOOL: [True],
    FieldDescriptor.CPPTYPE_ENUM: [9999, -1],
}

Path = tuple[FieldDescriptor, ...]


def paths(of: Descriptor, before: Path = ()) -> Iterator[Path]:
    """The ways to every field, through messages."""
    for field in of.fields:
        way = (*before, field)
        yield way
        if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE and not field.is_repeated and len(way) < _DEPTH:
            yield from paths(field.message_type, way)


def fillings(field: FieldDescriptor) -> Iterator[Callable[[Message], None]]:
    """What puts rubbish into a field of a message."""
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        values = field.message_type.fields_by_name["value"]
        for value in [] if values.message_type else RUBBISH[values.cpp_type]:
            yield partial(_map, name=field.name, value=value)
    elif field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
        yield partial(_add if field.is_repeated else _be_there, name=field.name)
    elif field.type == FieldDescriptor.TYPE_BYTES:
        yield partial(_set, name=field.name, value=b"\xff" * 1000)
    elif field.is_repeated:
        for value in RUBBISH[field.cpp_type]:
            yield partial(_extend, name=field.name, values=[value])
            yield partial(_extend, name=field.name, values=[value] * 40)
    else:
        for value in RUBBISH[field.cpp_type]:
            yield partial(_set, name=field.name, value=value)


def _set(into: Message, name: str, value: Any) -> None:
    setattr(into, name, value)


def _map(into: Message, name: str, value: Any) -> None:
    getattr(into, name)["\x00"] = value


def _extend(into: Message, name: str, values: list[Any]) -> None:
    getattr(into, name).extend(values)


def _add(into: Message, name: str) -> None:
    getattr(into, name).add()


def _be_there(into: Message, name: str) -> None:
    getattr(into, name).SetInParent()


def sound(method: MethodDescriptor, dataset: str) -> Any:
    """A request that goes through but for a name that is nobody's, so that nothing comes of it."""
    job = {"model": "rubbish", "dataset": "nobodys"}
    fields: dict[str, dict[str, Any]] = {
        "CreateJob": job,
        # Nothing comes of these; all settings are looked at.
        "EstimateJob": {"job": {"model": "rubbish", "dataset": dataset}},
        "CreateSweep": {"job": job, "members": [{"seed": 1}, {"seed": 2}]},
        "EstimateSweep": {"sweep": {"job": job, "members": [{"seed": 1}, {"seed": 2}]}},
        "FillRecipe": {"recipe": "classify", "dataset": "nobodys"},
        "UploadDataset": {"header": {"upload": {"filename": "r.jsonl", "size_bytes": 3, "sha256": "0" * 64}}},
        "GetDatasetUpload": {"sha256": "0" * 64},
        "ListDatasetProblems": {"dataset": f"sha256:{'0' * 64}"},
    }
    named = {
        name: "nobodys" if name == "dataset" else "00000000-0000-7000-8000-000000000000"
        for name in ("dataset", "job", "sweep")
        if name in method.input_type.fields_by_name
    }
    return GetMessageClass(method.input_type)(**fields.get(method.name, named))


def recipes_of(method: MethodDescriptor) -> list[Path]:
    """The ways to every field of a request that names a recipe."""
    return [path for path in paths(method.input_type) if path[-1].name == "recipe"]


def answer(caller: Caller, method: MethodDescriptor, request: Any) -> tuple[str, str, str]:
    """Code, reason and sentence; of a success only its code."""
    stub = caller.training if hasattr(caller.training, method.name) else caller.datasets
    sent = iter([request]) if method.client_streaming else request
    try:
        given = getattr(stub, method.name)(sent, metadata=caller.metadata, timeout=30)
        if method.server_streaming:
            list(given)
    except grpc.RpcError as error:
        failure = from_rpc_error(error)
        return failure.code.name, failure.reason, failure.message
    return "OK", "", ""


@pytest.fixture(scope="module")
def dataset(caller: Caller) -> str:
    return str(caller.upload(rows_text(6).encode(), "rubbish.jsonl").dataset)


@pytest.fixture(scope="module")
def records(caller: Caller) -> str:
    """A dataset of rows that only a recipe makes something of."""
    row = b'{"question": "Who pays?", "context": "Adults pay nine.", "answer": "Adults."}\n'
    return str(caller.upload(row * 6, "rubbish-records.jsonl").dataset)


@pytest.mark.parametrize("name", METHODS)
def test_rubbish_is_refused_in_words(caller: Caller, dataset: str, name: str) -> None:
    method, tried = METHODS[name], 0
    for path in paths(method.input_type):
        for fill in fillings(path[-1]):
            request = sound(method, dataset)
            into = request
            for field in path[:-1]:
                into = getattr(into, field.name)
            fill(into)
            code, reason, sentence = answer(caller, method, request)
            where = ".".join(field.name for field in path)
            assert code not in FAULTS, (where, code, reason, sentence, str(request)[:300])
            assert code == "OK" or (reason and sentence), (where, code, str(request)[:300])
            # What somebody sent is quoted as far as it helps, not sent back whole.
            assert len(sentence) < 5_000, (where, reason, len(sentence))
            tried += 1
    assert tried or not method.input_type.fields


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if recipes_of(method)])
@pytest.mark.parametrize("recipe", ["answer-from-context", "classify", "prefer"])
def test_a_choice_that_a_recipe_does_not_have_is_refused_with_those_that_it_has(
    caller: Caller, records: str, name: str, recipe: str
) -> None:
    for path in recipes_of(METHODS[name]):
        request = sound(METHODS[name], records)
        into = request
        for field in path[:-1]:
            into = getattr(into, field.name)
        into.dataset = records
        if "choice" in into.DESCRIPTOR.fields_by_name:
            into.recipe, into.choice = recipe, "foo"
        else:
            into.recipe = f"{recipe}:foo"
        code, reason, sentence = answer(caller, METHODS[name], request)
        assert (code, reason) == ("INVALID_ARGUMENT", "FIELD_INVALID"), (code, reason, sentence)
        assert f"{recipe} has the choices" in sentence
        assert "not foo" in sentence


def test_nothing_came_of_it(caller: Caller, dataset: str) -> None:
    """Not of what the tests above sent, either."""
    for name in ("CreateJob", "CreateSweep"):
        method = METHODS[name]
        for fill in (fill for path in paths(method.input_type) if len(path) == 1 for fill in fillings(path[-1])):
            request = sound(method, dataset)
            fill(request)
            assert answer(caller, method, request)[0] != "OK"
    every = caller.training.ListJobs(training_pb2.ListJobsRequest(page_size=1000), metadata=caller.metadata).jobs
    assert "rubbish" not in {job.model for job in every}
