"""The routes of responses: which request is which call, and how its answer is told."""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing

from trivium.gateway.v1 import responses_pb2 as pb

from gateway.http import queries
from gateway.http.answers import NoQuery
from gateway.http.fine_tuning_answers import Nothing
from gateway.http.requests import is_uuid
from gateway.http.responses import answers, rendering, requests
from gateway.http.responses.events import FailureEvent, ResponseStreamed
from gateway.http.responses.schemas import CountInput, Create, ItemsQuery, Shown
from gateway.http.routes import Route
from gateway.http.schemas import EXTENDED
from gateway.http.transport import Asked
from gateway.http.unary import Unary
from gateway.servicers import Servicers
from services.chassis.interceptors.call import ServicerContext

_RESPONSES = "/v1/responses"
_RESPONSE = _RESPONSES + "/{response}"
# By our names of fields, of the request and of what it becomes; those that end in [ begin the names of parts.
SENT = {
    "response": "response_id",
    "collections": "tools[0].vector_store_ids",
    "collection": "tools[0].vector_store_ids",
    "filter": "tools[0].filters",
    "top_k": "tools[0].max_num_results",
    "question": "input",
    "history": "input",
    "instructions": "instructions",
    "structured_output": "text.format",
    "sampling.max_tokens": "max_output_tokens",
    "settings.model": "model",
    "settings.instructions": "instructions",
    "settings.previous_response": "previous_response_id",
    "settings.metadata": "metadata",
    "settings.structured_output": "text.format",
    "settings.format_name": "text.format.name",
    "settings.sampling.max_tokens": "max_output_tokens",
    "settings.sampling.temperature": "temperature",
    "settings.sampling.top_p": "top_p",
    "settings.file_search.vector_stores": "tools[0].vector_store_ids",
    "settings.file_search.max_num_results": "tools[0].max_num_results",
    "settings.file_search.ranking_options": "tools[0].ranking_options",
    "ranking_options": "tools[0].ranking_options",
    # The answering model is none of those; what names one of them here is the reranker.
    "EMBEDDING_MODEL_NOT_FOUND": "tools[0].ranking_options.ranker",
    "settings.file_search.filter": "tools[0].filters",
    "settings.file_search": "tools[0]",
    **{f"{ours}{name}": f"trivium.{name}" for ours in ("settings.", "") for name in EXTENDED},
    "settings.tool_choice": "tool_choice",
    "settings.sticky_key": "safety_identifier",
    "settings.tool_use.tools": "tools",
    "settings.tool_use.tools[": "tools[",
    "settings.tool_use.name": "tool_choice.name",
    "tool_use.tools": "tools",
    "tool_use.tools[": "tools[",
    "tool_use.name": "tool_choice.name",
    "tool_use.single": "parallel_tool_calls",
    "tool_use": "tools",
}


class ResponseExchange:
    """POST /v1/responses: one JSON document, or the events of its making."""

    def __init__(self, servicers: Servicers, request_id: str) -> None:
        self.request_id = request_id
        self.stream = False
        self.sent = dict(SENT)
        self._servicer = servicers.responses
        self._sequence_number = 0

    def parse(self, asked: Asked) -> pb.CreateResponseRequest:
        """As Exchange."""
        body = requests.read(asked)
        message = requests.create(body, self.request_id)
        # What is none is refused by validation, under an id that a header can carry.
        if is_uuid(message.request_id):
            self.request_id = message.request_id
        self.stream = bool(body.stream)
        shape = body.trivium.shape if body.trivium else None
        if shape is not None:
            self.sent |= dict.fromkeys(("structured_output", "settings.structured_output"), f"trivium.{shape}")
        return message

    async def answer(self, message: pb.CreateResponseRequest, context: ServicerContext) -> AsyncGenerator[bytes]:
        """As Exchange."""
        results = message.include_results
        last = pb.CreateResponseResponse()
        async with aclosing(self._servicer.CreateResponse(message, context)) as events:
            async for last in events:
                self._sequence_number = last.sequence_number + 1
                if self.stream:
                    yield rendering.event(last, results=results)
        if not self.stream:
            # A failed one is raised, and has no document.
            whole = last.completed if last.HasField("completed") else last.incomplete
            yield json.dumps(rendering.response(whole, results=results), ensure_ascii=False).encode()

    def broken(self, error: bytes) -> bytes:
        """As Named."""
        return rendering.failure(json.loads(error)["error"], self._sequence_number)


_RPCS = pb.DESCRIPTOR.services_by_name["ResponseService"].methods_by_name
ROUTES = (
    Route(
        "POST",
        _RESPONSES,
        ResponseExchange,
        limited=True,
        rpc=_RPCS["CreateResponse"],
        summary="An answer with items; with file_search, from the files of vector stores.",
        body=Create,
        query=NoQuery,
        answer=answers.ResponseShown,
        events=ResponseStreamed,
        broken=FailureEvent,
    ),
    Route(
        "POST",
        _RESPONSES + "/input_tokens",
        Unary(
            requests.count,
            lambda to, message, context: to.responses.CountResponseInputTokens(message, context),
            lambda _, answer: {
                "object": "response.input_tokens",
                "input_tokens": answer.input_tokens,
                "trivium": {"context_tokens": answer.context_tokens},
            },
            tuple(SENT.items()),
        ),
        rpc=_RPCS["CountResponseInputTokens"],
        summary="The tokens that the prompt of a response would have.",
        body=CountInput,
        query=NoQuery,
        answer=answers.InputTokens,
    ),
    Route(
        "GET",
        _RESPONSE,
        Unary(
            requests.get,
            lambda to, message, context: to.responses.GetResponse(message, context),
            lambda message, answer: rendering.response(answer.response, results=message.include_results),
            tuple(SENT.items()),
        ),
        rpc=_RPCS["GetResponse"],
        summary="A stored response.",
        query=Shown,
        answer=answers.ResponseShown,
    ),
    Route(
        "DELETE",
        _RESPONSE,
        Unary(
            lambda asked: pb.DeleteResponseRequest(response=asked.path["response"]),
            lambda to, message, context: to.responses.DeleteResponse(message, context),
            lambda message, _: {"id": message.response, "object": "response", "deleted": True},
            tuple(SENT.items()),
        ),
        rpc=_RPCS["DeleteResponse"],
        summary="Delete a stored response.",
        query=NoQuery,
        answer=answers.ResponseDeleted,
    ),
    Route(
        "POST",
        _RESPONSE + "/cancel",
        Unary(
            lambda asked: pb.CancelResponseRequest(response=asked.path["response"]),
            lambda to, message, context: to.responses.CancelResponse(message, context),
            lambda _, answer: rendering.response(answer.response, results=False),
            tuple(SENT.items()),
        ),
        rpc=_RPCS["CancelResponse"],
        summary="Refused: no response runs in the background.",
        body=Nothing,
        query=NoQuery,
        answer=answers.ResponseShown,
    ),
    Route(
        "GET",
        _RESPONSE + "/input_items",
        Unary(
            requests.input_items,
            lambda to, message, context: to.responses.ListResponseInputItems(message, context),
            lambda message, answer: queries.page(
                [rendering.item(it, results=message.include_results) for it in answer.items],
                has_more=answer.has_more,
            ),
            tuple(SENT.items()),
        ),
        rpc=_RPCS["ListResponseInputItems"],
        summary="What a stored response was asked.",
        query=ItemsQuery,
        answer=answers.ItemsShown,
    ),
)
