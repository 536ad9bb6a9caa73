"""The gateway's two transports behind one runner: a case is a row, sent over each transport, with one expected outcome.

An operation is an RPC with the HTTP route that does the same (``tests.conformance.tables``).  Its outcome is in the words
of neither transport, without what is made anew each time (ids, times).
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from trivium.gateway.v1 import (
    batches_pb2,
    embeddings_pb2,
    files_pb2,
    fine_tuning_pb2,
    gateway_pb2,
    models_pb2,
    replays_pb2,
    responses_pb2,
    vector_stores_pb2,
)

from services.chassis.status import from_rpc_error

TIMEOUT_SECONDS = 240.0
Arguments = Mapping[str, Any]
FILES = (
    batches_pb2,
    embeddings_pb2,
    files_pb2,
    fine_tuning_pb2,
    gateway_pb2,
    models_pb2,
    replays_pb2,
    responses_pb2,
    vector_stores_pb2,
)
SERVICES: Mapping[str, Any] = {
    name: service for file in FILES for name, service in file.DESCRIPTOR.services_by_name.items()
}
_VALUE = "trivium.retriever.v1.MetadataValue"


@dataclass(frozen=True, slots=True)
class Rejection:
    """A rejected call: the catalogue's reason in lower case."""

    reason: str


@dataclass(frozen=True, slots=True)
class Operation:
    """An RPC of ``trivium.gateway.v1``, the HTTP route that does the same, and the outcome that both answers have.

    ``message`` makes the request's fields, or the messages of a stream, and ``http`` the options of httpx.  Without them
    arguments are fields of the request and, renamed by ``names``, parts of the path, a query or a JSON body.
    """

    rpc: str
    route: str
    outcome: Callable[[Any], Any]
    message: Callable[[Arguments], Any] = dict
    http: Callable[[Arguments], Mapping[str, Any]] | None = None
    names: Mapping[str, str] = field(default_factory=dict)

    def call(self, channel: Any) -> Callable[..., Any]:
        """Return the RPC on a channel."""
        method = self.method()
        kinds = ("stream" if streams else "unary" for streams in (method.client_streaming, method.server_streaming))
        bind: Callable[..., Callable[..., Any]] = getattr(channel, "_".join(kinds))
        return bind(
            f"/{method.containing_service.full_name}/{method.name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
        )

    def method(self) -> Any:
        """Return the RPC's descriptor."""
        service, name = self.rpc.split(".")
        return SERVICES[service].methods_by_name[name]

    def request(self, arguments: Arguments) -> Any:
        """Return what gRPC sends: a message, or an iterator over messages."""
        method = self.method()
        kind, made = message_factory.GetMessageClass(method.input_type), self.message(arguments)
        return iter([kind(**part) for part in made]) if method.client_streaming else _message(kind, made)

    def http_request(self, arguments: Arguments, *, stream: bool | None = None) -> dict[str, Any]:
        """Return what HTTP sends, as options of httpx; a body says whether its answer is a ``stream`` unless None."""
        method, path = self.route.split(" ")
        inside = re.findall(r"{(\w+)}", path)
        rest = {self.names.get(name, name): value for name, value in arguments.items() if name not in inside}
        derived = {"json" if method == "POST" else "params": rest} if rest else {}
        options = dict(self.http(arguments)) if self.http else derived
        if stream is not None and "json" in options:
            options["json"] = options["json"] | {"stream": stream}
            if stream:
                options["json"]["stream_options"] = {"include_usage": True}
        return {"method": method, "url": f"/v1{path.format_map(dict(arguments))}", **options}


@dataclass(frozen=True, slots=True)
class Case:
    """A row: a call of an operation, and its expected outcome: a rejection, a value, or a check of the value."""

    name: str
    operation: str
    arguments: Arguments
    expected: Any

    def require(self, outcome: Any) -> None:
        """Fail unless the outcome is as expected."""
        if callable(self.expected):
            assert not isinstance(outcome, Rejection), outcome
            assert self.expected(outcome), outcome
        else:
            assert outcome == self.expected, outcome


class Grpc:
    """``trivium.gateway.v1`` over gRPC."""

    def __init__(self, channel: grpc.Channel, key: str) -> None:
        self._channel = channel
        self._metadata = (("authorization", f"Bearer {key}"),)

    def send(self, operation: Operation, arguments: Arguments) -> Any:
        """Return the outcome of a call."""
        call, request = operation.call(self._channel), operation.request(arguments)
        try:
            answer = call(request, timeout=TIMEOUT_SECONDS, metadata=self._metadata, wait_for_ready=True)
            return operation.outcome(list(answer) if operation.method().server_streaming else answer)
        except grpc.RpcError as error:
            return Rejection(from_rpc_error(error).reason.lower())


class Http:
    """OpenAI's routes and Trivium's own over HTTP.  ``stream`` asks for events, or for an answer in one piece."""

    def __init__(self, client: httpx.Client, key: str, *, stream: bool | None = None) -> None:
        self._client = client
        self._key = {"authorization": f"Bearer {key}"}
        self._stream = stream

    def send(self, operation: Operation, arguments: Arguments) -> Any:
        """Return the outcome of a call."""
        options = operation.http_request(arguments, stream=self._stream)
        headers = self._key | options.pop("headers", {})
        answer = self._client.request(**options, headers=headers, timeout=TIMEOUT_SECONDS)
        if answer.status_code != httpx.codes.OK:
            return Rejection(answer.json()["error"]["code"])
        return operation.outcome(_parsed(answer))


Transport = Grpc | Http


def run(
    case: Case,
    operations: Mapping[str, Operation],
    transports: Mapping[str, Transport],
    require_same: Callable[[Any, Any], None] | None = None,
) -> None:
    """Send a case over each transport: the first outcome is as expected, and the others are the same."""
    operation = operations[case.operation]
    outcomes = {name: transport.send(operation, case.arguments) for name, transport in transports.items()}
    first, *others = outcomes.values()
    case.require(first)
    for other in others:
        if require_same:
            require_same(other, first)
        else:
            assert other == first, outcomes


def by_transport(of_message: Callable[[Any], Any], of_json: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return the outcome of an answer that each transport gives in a different shape."""

    def outcome(answer: Any) -> Any:
        first = answer[0] if isinstance(answer, list) and answer else answer
        return of_message(answer) if isinstance(first, Message) else of_json(answer)

    return outcome


def record(*columns: str) -> Callable[[Any], Any]:
    """Return a function that reads columns: it returns a tuple, or for one column its value.

    A column is the path of a field, or ``path in gRPC=path in JSON``.  If it ends with "?", an empty value is None.
    """
    parsed = [(*column.rstrip("?").partition("=")[::2], column.endswith("?")) for column in columns]

    def read(it: Any) -> Any:
        values = [_value(it, in_message, in_json or in_message, optional) for in_message, in_json, optional in parsed]
        return values[0] if len(values) == 1 else tuple(values)

    return read


def one(name: str, read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return the outcome of an answer that is one object, which gRPC wraps in a field of this name."""
    return by_transport(lambda answer: read(getattr(answer, name)), read)


def many(name: str, read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return the outcome of a list of objects, which gRPC has in a field of this name."""
    return lambda answer: [
        read(it) for it in (getattr(answer, name) if isinstance(answer, Message) else answer["data"])
    ]


def page(name: str, read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return the outcome of a page: its objects, and whether there are more."""
    return lambda answer: (many(name, read)(answer), record("has_more")(answer))


# The outcome of a deletion: true once it is done.
deleted = by_transport(lambda _: True, lambda answer: answer["deleted"])


def word(it: Message, name: str) -> str:
    """Return a value of an enum in HTTP's words: lower case, without what names of its enum begin with."""
    kind = it.DESCRIPTOR.fields_by_name[name].enum_type
    number = getattr(it, name)
    return kind.values_by_number[number].name.removeprefix(_prefix(kind)).lower() if number else ""


def comparable(sampling: Mapping[str, Any]) -> dict[str, Any]:
    """Return sampling without the seed, which the request's id determines, and with numbers as numbers."""
    return {
        name: round(float(value), 4) if isinstance(value, int | float | str) else value
        for name, value in sampling.items()
        if name != "seed" and value not in ([], "", {})
    }


def as_json(it: Message) -> dict[str, Any]:
    """Return a message as JSON, with the names of its fields."""
    return json_format.MessageToDict(it, preserving_proto_field_name=True)


def _parsed(answer: httpx.Response) -> Any:
    kind = answer.headers["content-type"].partition(";")[0]
    if kind == "application/json":
        return answer.json()
    if kind != "text/event-stream":
        return answer.content
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def _message(kind: type[Message], made: Any) -> Message:
    return made if isinstance(made, Message) else json_format.ParseDict(_named(kind.DESCRIPTOR, made), kind())


def _named(kind: Any, made: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields as protobuf's JSON has them: names of enums in full, and values of metadata with their kinds."""
    return {name: _converted(kind.fields_by_name[name], value) for name, value in made.items()}


def _converted(column: FieldDescriptor, value: Any) -> Any:
    kind = column.message_type
    if kind is not None and kind.GetOptions().map_entry:
        inner = kind.fields_by_name["value"]
        return {str(key): _converted(inner, it) for key, it in value.items()}
    if isinstance(value, list | tuple):
        return [_converted(column, it) for it in value]
    if column.enum_type is not None:
        return _prefix(column.enum_type) + value.upper()
    if kind is not None and kind.full_name == _VALUE:
        return {{bool: "flag", str: "text"}.get(type(value), "number"): value}
    return _named(kind, value) if kind is not None and isinstance(value, Mapping) else value


def _prefix(kind: Any) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.name).upper() + "_"


def _value(it: Any, in_message: str, in_json: str, optional: bool) -> Any:
    is_message = isinstance(it, Message)
    for name in (in_message if is_message else in_json).split("."):
        known = it or {} if optional else it
        it = _field(it, name) if is_message else (known.get(name) if optional else known[name])
    return it or None if optional else it


def _field(it: Any, name: str) -> Any:
    """Return a field's value as JSON would have it."""
    column = it.DESCRIPTOR.fields_by_name[name]
    value = getattr(it, name)
    if column.enum_type is not None:
        return word(it, name)
    if column.message_type is not None and column.message_type.GetOptions().map_entry:
        return {key: _plain(found) for key, found in value.items()}
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str | bytes | Message) else value


def _plain(value: Any) -> Any:
    return getattr(value, value.WhichOneof("value")) if isinstance(value, Message) else value
