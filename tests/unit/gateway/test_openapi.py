"""The document of the HTTP API: made of the routes, whole, and true to what the encoders write."""

import json
import re
from dataclasses import dataclass, field
from typing import Any

import pytest
import schemathesis
from schemathesis.core.result import Ok
from trivium.common.v1 import chat_pb2, receipt_pb2, tensor_pb2
from trivium.gateway.v1 import embeddings_pb2, gateway_pb2, models_pb2

from gateway.http.answers import Error, Receipt
from gateway.http.app import ROUTES
from gateway.http.chat import ChatExchange
from gateway.http.chat_answers import ChatAnswer, ChatChunk, TextAnswer
from gateway.http.completions import CompletionExchange
from gateway.http.embeddings import EmbeddingAnswer, EmbeddingExchange
from gateway.http.errors import NUMBERS, of_http, of_status
from gateway.http.model_answers import Model, ModelDeleted, Models, RouteShown
from gateway.http.models import DeletionExchange, ModelExchange, ModelsExchange, ReceiptExchange, RouteExchange
from gateway.http.openapi import document
from gateway.http.transport import Asked
from services.chassis.errors import Failure, Reason
from services.chassis.status import to_status

# Messages written as literals, which the stubs do not know of.
GATEWAY: Any = gateway_pb2
MODELS: Any = models_pb2
CHAT_PB: Any = chat_pb2
RECEIPTS: Any = receipt_pb2

DOCUMENT = document(ROUTES, "1")

RECEIPT = RECEIPTS.Receipt(request_id="r", sampling=chat_pb2.Sampling(max_tokens=3), sources=[{"marker": 1}])
FINAL = GATEWAY.GenerationFinal(
    finish_reason=chat_pb2.FINISH_REASON_TOOL_CALLS,
    timings=[{"stage": "prefill", "seconds": 0.1}],
    receipt=RECEIPT,
    fallbacks=[{"stage": "route", "instead": "base", "reason": "x"}],
    choices=[{"choice": 0, "finish_reason": chat_pb2.FINISH_REASON_TOOL_CALLS}],
)
LOGPROBS = [CHAT_PB.TokenLogprob(token="a", logprob=-0.1, top=[{"token": "b", "logprob": -0.2}])]
DELTAS = [
    GATEWAY.TextDelta(text="a", logprobs=LOGPROBS),
    GATEWAY.TextDelta(tool_calls=[{"id": "c", "name": "f"}]),
    GATEWAY.TextDelta(tool_calls=[{"arguments": "{}"}]),
]
SOURCE = {"span": {"marker": 1, "document": "d", "end": 3}, "title": "t", "text": "abc", "score": 0.5}


class Says:
    """A servicer with one answer of each kind."""

    async def Chat(self, request: Any, context: Any) -> Any:
        for delta in DELTAS:
            yield GATEWAY.ChatResponse(delta=delta)
        yield GATEWAY.ChatResponse(final=FINAL)

    async def Ask(self, request: Any, context: Any) -> Any:
        yield GATEWAY.AskResponse(sources={"sources": [SOURCE]})
        yield GATEWAY.AskResponse(delta={"text": "a [1]"})
        citations = [{"marker": 1, "answer_start": 2, "answer_end": 5, "span": SOURCE["span"]}]
        yield GATEWAY.AskResponse(final={"receipt": RECEIPT, "citations": citations, "unresolved_markers": [7]})

    async def Complete(self, request: Any, context: Any) -> Any:
        yield GATEWAY.CompleteResponse(delta=DELTAS[0])
        yield GATEWAY.CompleteResponse(final={"receipt": RECEIPT, "finish_reason": 1})

    async def ListModels(self, request: Any, context: Any) -> Any:
        kinds = GATEWAY.ModelKind.values()
        models = [{"name": f"m{kind}", "kind": kind} for kind in kinds]
        return GATEWAY.ListModelsResponse(models=models, unreachable=["generator"])

    async def GetModel(self, request: Any, context: Any) -> Any:
        return MODELS.GetModelResponse(model={"name": request.model, "kind": gateway_pb2.MODEL_KIND_ENCODER})

    async def DeleteModel(self, request: Any, context: Any) -> Any:
        return MODELS.DeleteModelResponse()

    async def ExplainRoute(self, request: Any, context: Any) -> Any:
        choice = {"candidates": [{"model": "a", "score": 0.2}], "confidence": 0.5}
        return GATEWAY.ExplainRouteResponse(model={"name": request.model}, choice=choice)

    async def GetReceipt(self, request: Any, context: Any) -> Any:
        return GATEWAY.GetReceiptResponse(receipt=RECEIPT)

    async def CreateEmbeddings(self, request: Any, context: Any) -> Any:
        tensor = tensor_pb2.Tensor(data=bytes(8), dtype=tensor_pb2.DTYPE_FLOAT32, shape=[1, 2])
        return embeddings_pb2.CreateEmbeddingsResponse(embeddings=tensor, token_counts=[3], truncated=[True], model="m")


@dataclass(frozen=True)
class Servicers:
    gateway: Says = field(default_factory=Says)
    embeddings: Says = field(default_factory=Says)
    models: Says = field(default_factory=Says)


async def written(exchange: Any, body: dict[str, Any], **asked: Any) -> bytes:
    request = exchange.parse(Asked(json.dumps(body).encode(), **asked))
    return b"".join([chunk async for chunk in exchange.answer(request, None)])


CHAT: dict[str, Any] = {"model": "base", "messages": [{"role": "user", "content": "x"}], "logprobs": True}
SEARCHED = CHAT | {"trivium": {"collection": "c"}}


@pytest.mark.parametrize(
    ("exchange", "body", "model"),
    [
        (ChatExchange, CHAT, ChatAnswer),
        (ChatExchange, SEARCHED, ChatAnswer),
        (CompletionExchange, {"model": "base", "prompt": "x", "logprobs": 1}, TextAnswer),
        (EmbeddingExchange, {"model": "m", "input": "x"}, EmbeddingAnswer),
        (EmbeddingExchange, {"model": "m", "input": "x", "encoding_format": "base64"}, EmbeddingAnswer),
        (ModelsExchange, {}, Models),
        (ModelExchange, {}, Model),
        (DeletionExchange, {}, ModelDeleted),
        (RouteExchange, {}, RouteShown),
        (ReceiptExchange, {}, Receipt),
    ],
)
async def test_an_answer_is_what_the_document_says(exchange: Any, body: dict[str, Any], model: Any) -> None:
    path = {"name": "m", "request_id": "r"}
    model.model_validate_json(await written(exchange(Servicers(), "id"), body, path=path, query={"model": "m"}))


@pytest.mark.parametrize(
    ("exchange", "body", "model"),
    [
        (ChatExchange, CHAT, ChatChunk),
        (ChatExchange, SEARCHED, ChatChunk),
        (CompletionExchange, {"model": "base", "prompt": "x"}, TextAnswer),
    ],
)
async def test_every_event_is_what_the_document_says(exchange: Any, body: dict[str, Any], model: Any) -> None:
    streamed = body | {"stream": True, "stream_options": {"include_usage": True}}
    text = (await written(exchange(Servicers(), "id"), streamed)).decode()
    *events, last = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert last == "[DONE]"
    for event in events:
        model.model_validate_json(event)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.verb} {route.path}")
def test_every_route_says_what_it_takes_and_gives(route: Any) -> None:
    assert route.summary.endswith(".")
    assert route.query is not None
    assert (route.answer is None) == (route.media_type != "application/json")
    assert (route.body is None) == (route.verb not in ("POST", "PUT", "PATCH"))


def test_the_document_is_one_that_tools_read_and_every_route_is_in_it() -> None:
    schema = schemathesis.openapi.from_dict(DOCUMENT)
    schema.validate()
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    found = {(operation.method.upper(), operation.path) for operation in operations}
    assert found == {(route.verb, route.path.replace(":path}", "}")) for route in ROUTES}
    assert len({op["operationId"] for path in DOCUMENT["paths"].values() for op in path.values()}) == len(ROUTES)


def test_every_number_of_a_refusal_is_in_the_document_of_every_route_with_its_headers() -> None:
    for path in DOCUMENT["paths"].values():
        for operation in path.values():
            refusals = {int(number): told["$ref"] for number, told in operation["responses"].items() if number != "200"}
            assert refusals.keys() == set(NUMBERS)
            for reference in refusals.values():
                told = DOCUMENT["components"]["responses"][reference.rpartition("/")[2]]
                assert told["headers"]["x-request-id"]["required"]


def test_what_is_left_of_limits_is_told_where_limits_hold() -> None:
    def told(path: str, number: str) -> set[str]:
        response = DOCUMENT["paths"][path]["post"]["responses"][number]
        if "$ref" in response:
            response = DOCUMENT["components"]["responses"][response["$ref"].rpartition("/")[2]]
        return {name for name in response["headers"] if name.startswith("x-ratelimit-")}

    for path in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/trivium/replays"):
        for number in ("200", "404", "429", "503"):
            assert len(told(path, number)) == 6
        assert told(path, "401") == set()
    assert told("/v1/batches", "200") == told("/v1/batches", "429") == set()


def test_what_asks_for_nothing_is_in_the_document_too() -> None:
    taken = DOCUMENT["components"]["schemas"]["ChatCompletion"]
    assert taken["properties"]["store"] == {"enum": [None, False]}
    assert {"type": "null"} in taken["properties"]["temperature"]["anyOf"]
    assert taken["additionalProperties"] is False
    other = DOCUMENT["components"]["schemas"]["Create"]["properties"]
    assert other["truncation"] == {"enum": [None, "disabled"]}
    assert "truncation" not in DOCUMENT["components"]["schemas"]["BatchOrder"]["properties"]


@pytest.mark.parametrize("reason", Reason, ids=lambda reason: reason.name)
def test_every_failure_of_the_catalogue_has_a_number_and_a_shape_of_the_document(reason: Reason) -> None:
    variables: dict[str, Any] = dict.fromkeys(re.findall(r"{(\w+)}", reason.value.sentence), "x")
    failure = Failure(reason, **variables)
    error = of_status(to_status(failure, correlation_id="c"), "r")
    assert error.status in NUMBERS
    Error.model_validate_json(error.body)


@pytest.mark.parametrize("number", [404, 405, 408, 413])
def test_a_refusal_before_any_call_has_the_same_shape(number: int) -> None:
    assert number in NUMBERS
    Error.model_validate_json(of_http(number, "x", "r").body)
