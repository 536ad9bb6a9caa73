"""Every parameter that the official client of today can send: it is honoured, or refused by its name.

The list is the client's own signatures, so that a client that learns a parameter fails here until somebody decides.
"""

import inspect
import json
from typing import Any

import pytest
from openai.resources.chat.completions import Completions as ChatCompletions
from openai.resources.completions import Completions
from openai.resources.embeddings import Embeddings
from pydantic import BaseModel

from gateway.http.app import ROUTES, is_bodiless
from gateway.http.embeddings import EmbeddingCreation, EmbeddingExchange
from gateway.http.parsing import parse
from gateway.http.requests import of_chat, of_completion
from gateway.http.schemas import ChatCompletion, TextCompletion
from gateway.http.transport import Asked, Door
from services.chassis.errors import Failure, Reason
from services.chassis.interceptors.dispatch import Dispatcher
from tests.unit.gateway.test_openapi import Servicers

# How a request travels, not what it asks for.
TRANSPORT = {"self", "extra_headers", "extra_query", "extra_body", "timeout"}
TOOLS = [{"type": "function", "function": {"name": "f"}}]
TAKEN: dict[str, Any] = {
    "best_of": 2,
    "dimensions": 7,
    "echo": True,
    "encoding_format": "base64",
    "frequency_penalty": 0.5,
    "input": "other",
    "logit_bias": {"5": 1.0},
    "logprobs": True,
    "max_completion_tokens": 3,
    "max_tokens": 3,
    "messages": [{"role": "user", "content": "other"}],
    "model": "other",
    "n": 2,
    "parallel_tool_calls": False,
    "presence_penalty": 0.5,
    "prompt": "other",
    "response_format": {"type": "json_object"},
    "safety_identifier": "ada",
    "seed": 3,
    "stop": "x",
    "stream": True,
    "stream_options": {"include_usage": True},
    "temperature": 0.5,
    "tool_choice": "required",
    "tools": TOOLS,
    "top_logprobs": 2,
    "top_p": 0.5,
    "user": "ada",
}
# What such a parameter needs beside it to mean anything.
BESIDE: dict[str, dict[str, Any]] = {
    "parallel_tool_calls": {"tools": TOOLS},
    "tool_choice": {"tools": TOOLS},
    "top_logprobs": {"logprobs": True},
}
ID = "01890000-0000-7000-8000-000000000000"


def parameters(method: Any) -> list[str]:
    return [name for name in inspect.signature(method).parameters if name not in TRANSPORT]


def chat(**fields: Any) -> Any:
    body = {"model": "base", "messages": [{"role": "user", "content": "x"}], **fields}
    asked = parse(ChatCompletion, json.dumps(body).encode())
    return of_chat(asked, ID), asked.stream, asked.stream_options.include_usage


def completion(**fields: Any) -> Any:
    body = {"model": "base", "prompt": "x", **fields}
    asked = parse(TextCompletion, json.dumps(body).encode())
    return of_completion(asked, ID), asked.stream, asked.stream_options.include_usage


def embedding(**fields: Any) -> Any:
    exchange = EmbeddingExchange(Servicers(), ID)  # type: ignore[arg-type]  # a stand-in that is asked nothing
    request = exchange.parse(Asked(json.dumps({"model": "m", "input": "x", **fields}).encode()))
    return request, exchange._base64


CALLS = (
    (chat, ChatCompletion, ChatCompletions.create),
    (completion, TextCompletion, Completions.create),
    (embedding, EmbeddingCreation, Embeddings.create),
)
EACH = [(call, schema, name) for call, schema, method in CALLS for name in parameters(method)]


@pytest.mark.parametrize(("call", "schema", "name"), EACH, ids=lambda value: getattr(value, "__name__", value))
def test_a_parameter_changes_what_is_asked_or_is_refused_by_its_name(
    call: Any, schema: type[BaseModel], name: str
) -> None:
    value = 1 if (call, name) == (completion, "logprobs") else TAKEN.get(name, "something")
    if name not in schema.model_fields:
        with pytest.raises(Failure) as refused:
            call(**{name: value})
        assert (refused.value.reason, refused.value.field) == (Reason.PARAMETER_UNSUPPORTED, name)
        return
    beside = BESIDE.get(name, {})
    # An encoder's alias tries no canaries: whoever a user is, the same version answers.
    assert (call, name) == (embedding, "user") or call(**beside, **{name: value}) != call(**beside)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/trivium/replays"])
def test_half_of_a_surrogate_pair_which_json_can_spell_is_a_refusal_and_no_fault_of_ours(path: str) -> None:
    (route,) = [found for found in ROUTES if found.path == path]
    half = {"model": "m", "prompt": "\ud800"}
    body = {
        "/v1/chat/completions": {"model": "m", "messages": [{"role": "user", "content": "\ud800"}]},
        "/v1/completions": half,
        "/v1/trivium/replays": {"request_id": "r", "request": half},
    }[path]
    exchange = route.exchange(Servicers(), ID)  # type: ignore[arg-type]  # a stand-in that is asked nothing
    door = Door(path, lambda _: exchange, Dispatcher(()))
    with pytest.raises(Failure) as refused:
        door.parsed(exchange, Asked(json.dumps(body).encode()))
    assert refused.value.reason is Reason.BODY_NOT_DECODABLE


@pytest.mark.parametrize(
    "route", [route for route in ROUTES if is_bodiless(route)], ids=lambda it: f"{it.verb} {it.path}"
)
def test_a_body_where_the_path_says_all_is_refused_and_not_ignored(route: Any) -> None:
    unasked: Any = None
    door = Door(route.path, lambda _: unasked, Dispatcher(()), bodiless=is_bodiless(route))
    with pytest.raises(Failure) as refused:
        door.parsed(unasked, Asked(b'{"colour": "red"}'))
    assert (refused.value.reason, refused.value.field) == (Reason.PARAMETER_UNSUPPORTED, "body")
