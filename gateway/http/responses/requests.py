"""From OpenAI's requests for responses to our own API's: names and places change, meaning does not."""

import json
from collections.abc import Mapping
from typing import Any

from trivium.common.v1 import chat_pb2
from trivium.gateway.v1 import responses_pb2 as pb
from trivium.retriever.v1 import retriever_pb2

from gateway.http import asking, bodies, queries
from gateway.http.requests import constraint_of
from gateway.http.responses import tools
from gateway.http.responses.schemas import (
    RESULTS,
    CountInput,
    Create,
    Format,
    InputCall,
    InputMessage,
    InputOutput,
    InputRefusal,
    InputSearch,
)
from gateway.http.schemas import Manner
from gateway.http.transport import Asked
from services.chassis.errors import Failure, Reason

_ROLES = {
    "system": chat_pb2.CHAT_ROLE_SYSTEM,
    "developer": chat_pb2.CHAT_ROLE_SYSTEM,
    "user": chat_pb2.CHAT_ROLE_USER,
    "assistant": chat_pb2.CHAT_ROLE_ASSISTANT,
}
_ORDERS = {"asc": retriever_pb2.LIST_ORDER_OLDEST_FIRST, "desc": retriever_pb2.LIST_ORDER_NEWEST_FIRST}
_PARTS = ("input_text", "output_text", "refusal", "text")
# Chats have them in trivium; OpenAI's tool says the same here.
_WHY = {
    f"trivium.{name}": f"; {instead} of the tool file_search"
    for name, instead in {
        "collection": "name vector_store_ids",
        "collections": "name vector_store_ids",
        "top_k": "use max_num_results",
        "filter": "use filters",
    }.items()
}


def read(asked: Asked) -> Create:
    """The body.  Raises BODY_NOT_DECODABLE, FIELD_INVALID, or PARAMETER_UNSUPPORTED by name."""
    return bodies.checked(Create, Create.asked(bodies.decoded(asked.body)), why=_WHY)


def create(body: Create, request_id: str) -> pb.CreateResponseRequest:
    """A response that is asked for."""
    if body.stream_options is not None and not body.stream:
        raise Failure(Reason.PARAMETER_UNSUPPORTED, field="stream_options", why=" without stream: true")
    manner = body.trivium or Manner()
    sampling = chat_pb2.Sampling(
        max_tokens=_optional_int32(body.max_output_tokens, "max_output_tokens"),
        temperature=body.temperature,
        top_p=body.top_p,
    )
    settings = _settings(
        body,
        constraint_of(manner),
        metadata=body.metadata or {},
        sampling=sampling,
        store=True if body.store is None else body.store,
        **asking.fields(manner),
    )
    return pb.CreateResponseRequest(
        settings=settings,
        input=_input(body),
        include_results=RESULTS in (body.include or ()),
        request_id=manner.request_id or request_id,
    )


def count(asked: Asked) -> pb.CountResponseInputTokensRequest:
    """A prompt that is to be counted."""
    body = bodies.checked(CountInput, CountInput.asked(bodies.decoded(asked.body)))
    return pb.CountResponseInputTokensRequest(settings=_settings(body), input=_input(body))


def _settings(
    body: CountInput, constraint: chat_pb2.StructuredOutput | None = None, **more: Any
) -> pb.ResponseSettings:
    """What a response is asked with: what its prompt is made of, and ``more``."""
    shape, name = _shape(body.text.format if body.text else None)
    if constraint is not None and shape is not None:
        raise Failure(Reason.PARAMETER_UNSUPPORTED, field="text.format", why=" beside another constraint in trivium")
    settings = pb.ResponseSettings(
        model=body.model,
        instructions=body.instructions or "",
        previous_response=body.previous_response_id or "",
        structured_output=shape or constraint,
        format_name=name,
        sticky_key=body.sticky_key,
        **more,
    )
    tools.apply(body, settings)
    return settings


def _input(body: CountInput) -> list[pb.ResponseItem]:
    return [_said("user", body.input)] if isinstance(body.input, str) else _items(body.input)


def get(asked: Asked) -> pb.GetResponseRequest:
    """A stored response."""
    return pb.GetResponseRequest(response=asked.path["response"], include_results=_included(asked.query))


def input_items(asked: Asked) -> pb.ListResponseInputItemsRequest:
    """A page of what a response was asked."""
    order = asked.query.get("order", "desc")
    if order not in _ORDERS:
        raise Failure(Reason.FIELD_INVALID, field="order", problem="must be asc or desc")
    return pb.ListResponseInputItemsRequest(
        response=asked.path["response"],
        limit=queries.limit(asked.query),
        order=_ORDERS[order],
        after=asked.query.get("after", ""),
        include_results=_included(asked.query),
    )


def _included(query: Mapping[str, str]) -> bool:
    said = queries.listed(query, "include")
    for value in said:
        if value != RESULTS:
            raise Failure(Reason.PARAMETER_UNSUPPORTED, field="include", why=f" with {value}")
    return bool(said)


def _items(given: list[dict[str, Any]]) -> list[pb.ResponseItem]:
    return [_item(item, f"input[{place}]") for place, item in enumerate(given)]


def _item(given: dict[str, Any], where: str) -> pb.ResponseItem:
    kind = given.get("type") or "message"
    present = {name: value for name, value in given.items() if value is not None}
    if kind == "file_search_call":
        search = bodies.checked(InputSearch, present, where)
        return pb.ResponseItem(file_search_call=pb.FileSearchCall(queries=search.queries))
    if kind == "function_call":
        call = bodies.checked(InputCall, present, where)
        made = pb.FunctionCall(call=call.call_id, name=call.name, arguments=call.arguments)
        return pb.ResponseItem(function_call=made)
    if kind == "function_call_output":
        returned = bodies.checked(InputOutput, present, where)
        text = returned.output if isinstance(returned.output, str) else "".join(it.text for it in returned.output)
        return pb.ResponseItem(function_call_output=pb.FunctionCallOutput(call=returned.call_id, output=text))
    if kind != "message":
        raise Failure(Reason.PARAMETER_UNSUPPORTED, field=where, why=f" of type {kind!r} in this version")
    for place, part in enumerate(given["content"] if isinstance(given.get("content"), list) else ()):
        if isinstance(part, dict) and part.get("type") not in _PARTS:
            why = f" of type {part.get('type')!r}: no model here reads it"
            raise Failure(Reason.PARAMETER_UNSUPPORTED, field=f"{where}.content[{place}]", why=why)
    message = bodies.checked(InputMessage, {"type": kind, **present}, where)
    return _said(message.role, *([message.content] if isinstance(message.content, str) else _parts(message, where)))


def _parts(message: InputMessage, where: str) -> list[str]:
    parts = [part for part in message.content if not isinstance(part, str)]
    refusal = next((place for place, part in enumerate(parts) if isinstance(part, InputRefusal)), None)
    if refusal is not None and message.role != "assistant":
        problem = "is of an assistant's message alone"
        raise Failure(Reason.FIELD_INVALID, field=f"{where}.content[{refusal}]", problem=problem)
    return [part.text for part in parts]


def _said(role: str, *parts: str) -> pb.ResponseItem:
    return pb.ResponseItem(message=pb.ResponseMessage(role=_ROLES[role], parts=parts))


def _shape(wanted: Format | None) -> tuple[chat_pb2.StructuredOutput | None, str]:
    if wanted is not None and wanted.schema_ is not None and wanted.type != "json_schema":
        raise Failure(Reason.PARAMETER_UNSUPPORTED, field="text.format.schema", why=f" beside type {wanted.type}")
    if wanted is None or wanted.type == "text":
        return None, ""
    if wanted.type == "json_object":
        return chat_pb2.StructuredOutput(json_object=True), ""
    if wanted.schema_ is None:
        raise Failure(Reason.FIELD_INVALID, field="text.format.schema", problem="is required")
    return chat_pb2.StructuredOutput(json_schema=json.dumps(wanted.schema_)), wanted.name or ""


def _optional_int32(value: int | None, field: str) -> int | None:
    return None if value is None else bodies.int32(value, field)
