"""Every parameter that the official client of today can send: it is honoured, or refused by its name.

The list is the client's own signatures, so that a client that learns a parameter fails here until somebody decides.
"""

import asyncio
import inspect
import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from openai.resources.batches import Batches
from openai.resources.chat.completions import Completions as ChatCompletions
from openai.resources.completions import Completions
from openai.resources.embeddings import Embeddings
from openai.resources.files import Files
from openai.resources.fine_tuning.jobs import Jobs
from openai.resources.responses import Responses
from openai.resources.responses.input_tokens import InputTokens
from openai.resources.vector_stores import VectorStores
from pydantic import BaseModel

from gateway.http import batches
from gateway.http.app import ROUTES, is_bodiless
from gateway.http.embeddings import EmbeddingCreation, EmbeddingExchange
from gateway.http.file_answers import FileForm
from gateway.http.fine_tuning_schemas import CreateJob, to_request
from gateway.http.parsing import parse
from gateway.http.requests import of_chat, of_completion
from gateway.http.responses import requests as responses
from gateway.http.responses.schemas import CountInput, Create
from gateway.http.schemas import ChatCompletion, TextCompletion
from gateway.http.transport import Asked, Door
from gateway.http.uploads import Upload
from gateway.http.vector_stores import requests as stores
from services.chassis.errors import Failure, Reason
from services.chassis.interceptors.dispatch import Dispatcher
from tests.unit.gateway.test_openapi import Servicers

# How a request travels, and the path that it travels to: not what it asks for.
TRANSPORT = {"self", "extra_headers", "extra_query", "extra_body", "timeout", "vector_store_id"}
TOOLS = [{"type": "function", "function": {"name": "f"}}]
FUNCTIONS = [{"type": "function", "name": "f"}]
DAY = {"anchor": "last_active_at", "days": 1}
WEEK = {"anchor": "created_at", "seconds": 604800}
EPOCHS = {"n_epochs": 2}
TAKEN: dict[str, Any] = {
    "best_of": 2,
    "chunking_strategy": {"type": "static", "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400}},
    "completion_window": "24h",
    "description": "other",
    "dimensions": 7,
    "echo": True,
    "encoding_format": "base64",
    "endpoint": "/v1/embeddings",
    "expires_after": DAY,
    "file": "other",
    "file_ids": ["file-1"],
    "filters": {"type": "eq", "key": "year", "value": 2024},
    "frequency_penalty": 0.5,
    "hyperparameters": EPOCHS,
    "include": ["file_search_call.results"],
    "input": "other",
    "input_file_id": "other",
    "instructions": "other",
    "integrations": [{"type": "wandb", "wandb": {"project": "p"}}],
    "logit_bias": {"5": 1.0},
    "logprobs": True,
    "max_completion_tokens": 3,
    "max_num_results": 3,
    "max_output_tokens": 3,
    "max_tokens": 3,
    "messages": [{"role": "user", "content": "other"}],
    "metadata": {"a": "b"},
    "method": {"type": "dpo"},
    "model": "other",
    "n": 2,
    "name": "other",
    "output_expires_after": WEEK,
    "parallel_tool_calls": False,
    "presence_penalty": 0.5,
    "previous_response_id": "resp_1",
    "prompt": "other",
    "purpose": "batch",
    "query": "other",
    "ranking_options": {"ranker": "none"},
    "response_format": {"type": "json_object"},
    "rewrite_query": True,
    "safety_identifier": "ada",
    "seed": 3,
    "stop": "x",
    "store": False,
    "stream": True,
    "stream_options": {"include_usage": True},
    "suffix": "other",
    "temperature": 0.5,
    "text": {"format": {"type": "json_object"}},
    "tool_choice": "required",
    "tools": TOOLS,
    "top_logprobs": 2,
    "top_p": 0.5,
    "training_file": "other",
    "user": "ada",
    "validation_file": "other",
}
# What such a parameter needs beside it to mean anything.
BESIDE: dict[str, dict[str, Any]] = {
    "parallel_tool_calls": {"tools": TOOLS},
    "stream_options": {"stream": True},
    "tool_choice": {"tools": TOOLS},
    "top_logprobs": {"logprobs": True},
}
ID = "01890000-0000-7000-8000-000000000000"


def parameters(method: Any) -> list[str]:
    return [name for name in inspect.signature(method).parameters if name not in TRANSPORT]


def asked(body: dict[str, Any]) -> Asked:
    return Asked(json.dumps(body).encode(), {"store": "vs_1"})


def chat(**fields: Any) -> Any:
    body = parse(
        ChatCompletion, asked({"model": "base", "messages": [{"role": "user", "content": "x"}], **fields}).body
    )
    return of_chat(body, ID), body.stream, body.stream and body.stream_options.include_usage


def completion(**fields: Any) -> Any:
    body = parse(TextCompletion, asked({"model": "base", "prompt": "x", **fields}).body)
    return of_completion(body, ID), body.stream, body.stream and body.stream_options.include_usage


def embedding(**fields: Any) -> Any:
    exchange = EmbeddingExchange(Servicers(), ID)  # type: ignore[arg-type]  # a stand-in that is asked nothing
    request = exchange.parse(asked({"model": "m", "input": "x", **fields}))
    return request, exchange._base64


def response(**fields: Any) -> Any:
    body = responses.read(asked({"model": "base", "input": "x", **fields}))
    return responses.create(body, ID), body.stream


def count(**fields: Any) -> Any:
    return responses.count(asked({"model": "base", "input": "x", **fields}))


def new_store(**fields: Any) -> Any:
    return stores.create_store(asked(fields), "")


def changed_store(**fields: Any) -> Any:
    return stores.update_store(asked(fields))


def search(**fields: Any) -> Any:
    return stores.search_store(asked({"query": "x", **fields}))


def upload(**fields: Any) -> Any:
    """The parts that a form comes to, written as the client writes it."""
    said = {"file": "x", "purpose": "assistants", **fields}
    files = {"file": ("a.txt", said.pop("file").encode())}
    inner = {
        f"{name}[{part}]": str(its)
        for name, value in said.items()
        if isinstance(value, dict)
        for part, its in value.items()
    }
    data = {name: value for name, value in said.items() if not isinstance(value, dict)} | inner
    form = httpx.Request("POST", "http://localhost/v1/files", data=data, files=files)

    async def stream() -> AsyncIterator[bytes]:
        yield form.read()

    async def parts() -> list[Any]:
        told = Asked(b"", {}, {}, stream(), form.headers["content-type"])
        return [part async for part in Upload(ID).messages(told)]

    return asyncio.run(parts())


def batch(**fields: Any) -> Any:
    exchange = batches.CreateExchange(cast("Any", SimpleNamespace(batches=None)), ID)
    body = {"input_file_id": "file-1", "endpoint": "/v1/responses", "completion_window": "24h", **fields}
    return exchange.parse(asked(body))


def job(**fields: Any) -> Any:
    return to_request(parse(CreateJob, asked({"model": "base", "training_file": "file-1", **fields}).body))


CALLS = (
    (chat, ChatCompletion, ChatCompletions.create),
    (completion, TextCompletion, Completions.create),
    (embedding, EmbeddingCreation, Embeddings.create),
    (response, Create, Responses.create),
    (count, CountInput, InputTokens.count),
    (new_store, stores.CreateStore, VectorStores.create),
    (changed_store, stores.UpdateStore, VectorStores.update),
    (search, stores.SearchStore, VectorStores.search),
    (upload, FileForm, Files.create),
    (batch, batches.BatchOrder, Batches.create),
    (job, CreateJob, Jobs.create),
)
EACH = [(call, schema, name) for call, schema, method in CALLS for name in parameters(method)]
# Where another call has another shape for the name.
OWN: dict[tuple[Any, str], dict[str, Any]] = {
    (completion, "logprobs"): {"logprobs": 1},
    (response, "parallel_tool_calls"): {"parallel_tool_calls": False, "tools": FUNCTIONS},
    (response, "stream_options"): {"stream_options": {"include_obfuscation": False}, "stream": True},
    (response, "tool_choice"): {"tool_choice": "required", "tools": FUNCTIONS},
    (response, "tools"): {"tools": FUNCTIONS},
    (count, "parallel_tool_calls"): {"parallel_tool_calls": False, "tools": FUNCTIONS},
    (count, "tool_choice"): {"tool_choice": "required", "tools": FUNCTIONS},
    (count, "tools"): {"tools": FUNCTIONS},
    (upload, "expires_after"): {"expires_after": WEEK},
}
# What a call takes with the one value that is what it does in any case.
SINGLE = {
    # An encoder's alias tries no canaries: whoever a user is, the same version answers.
    (embedding, "user"),
    (response, "stream_options"),
    (batch, "completion_window"),
}
# What a call takes with the value that asks for nothing, and refuses with any other.
IDLE = {(new_store, "chunking_strategy"), (job, "integrations")}


def refused(call: Any, **fields: Any) -> Failure:
    with pytest.raises(Failure) as failure:
        call(**fields)
    assert failure.value.reason is Reason.PARAMETER_UNSUPPORTED
    return failure.value


@pytest.mark.parametrize(("call", "schema", "name"), EACH, ids=lambda value: getattr(value, "__name__", value))
def test_a_parameter_changes_what_is_asked_or_is_refused_by_its_name(
    call: Any, schema: type[BaseModel], name: str
) -> None:
    # Of a form each part of a field is one.
    taken = {(field.alias or own).partition("[")[0] for own, field in schema.model_fields.items()}
    if name not in taken:
        assert refused(call, **{name: "something"}).field == name
        return
    said = OWN.get((call, name), {**BESIDE.get(name, {}), name: TAKEN[name]})
    if (call, name) in IDLE:
        assert str(refused(call, **said).field).partition(".")[0] == name
        return
    beside = {other: value for other, value in said.items() if other != name}
    assert (call(**said) == call(**beside)) is ((call, name) in SINGLE)


@pytest.mark.parametrize("call", [chat, completion, response])
def test_what_is_said_of_a_stream_is_refused_where_there_is_none(call: Any) -> None:
    options = OWN.get((call, "stream_options"), {"stream_options": {"include_usage": False}})["stream_options"]
    assert refused(call, stream_options=options).field == "stream_options"
    assert refused(call, stream_options=options, stream=False).field == "stream_options"
    call(stream_options=None)


def test_calls_one_at_a_time_need_tools_in_a_chat_and_are_harmless_in_a_response() -> None:
    without: tuple[dict[str, Any], ...] = ({}, {"tools": []})
    for tools in without:
        with pytest.raises(Failure) as failure:
            chat(parallel_tool_calls=False, **tools)
        assert failure.value.field == "parallel_tool_calls"
        chat(parallel_tool_calls=True, **tools)
        response(parallel_tool_calls=False, **tools)


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
