"""POST /v1/trivium/replays: an earlier answer computed again, and held against its receipt."""

import json
import math
from typing import Any, Literal

from trivium.gateway.v1 import gateway_pb2
from trivium.gateway.v1 import replays_pb2 as pb

from gateway.http import rendering
from gateway.http.answers import NoQuery, Receipt, Span
from gateway.http.bodies import Text
from gateway.http.parsing import Strict, parse
from gateway.http.requests import is_uuid, of_chat, of_completion
from gateway.http.routes import Route
from gateway.http.schemas import ChatCompletion, TextCompletion
from gateway.http.spans import span
from gateway.http.transport import Asked
from gateway.http.unary import Unary
from services.chassis.errors import Failure, Reason

_PREFIX = "REPLAY_VERDICT_"


class Replaying(Strict):
    """POST /v1/trivium/replays.

    ``request`` is the body of /v1/chat/completions or /v1/completions as it was sent; what it says of model and sampling
    is not looked at, for the receipt has what became of it.  Left out, it is found where the tenant has it stored: as a
    response, which ``request_id`` may name itself, or as a line of a batch whose input file is there.  ``answer`` is the
    text, all of it, by default that of the stored response; without it only the digest of its tokens is compared.
    ``rewritten_question`` is the question as ``trivium.rewrite`` of the answer told it.
    """

    request_id: Text
    request: dict[str, Any] | None = None
    answer: Text | None = None
    rewritten_question: Text = ""


class ReplayedToken(Strict):
    """A token, and the likeliest at its place."""

    token: str
    logprob: float
    bytes: list[int] | None
    top_logprobs: list[dict[str, Any]]


class DifferenceShown(Strict):
    """A token at which the answer is not what the weights say; without a ``rival`` it is none of the likeliest."""

    position: int
    start: int
    made: ReplayedToken | None
    rival: ReplayedToken | None
    rank: int | None
    margin: float | None


class ReplayedSource(Strict):
    """A source of the prompt, read again at its version."""

    span: Span
    title: str
    found: bool
    text: str


class ReplayedCollection(Strict):
    """A collection that the answer is from, then and now; ``present_version`` is null where it is gone or has expired."""

    collection: str
    version: str
    present_version: str | None


class ReplayShown(Strict):
    """What was found; ``replayed`` is null where nothing was generated."""

    object: Literal["trivium.replay"]
    verdict: Literal["exact", "explained", "different", "undecided", "prompt_differs", "weights_gone"]
    explanation: str
    receipt: Receipt
    replayed: Receipt | None
    text: str
    differences: list[DifferenceShown]
    sources: list[ReplayedSource]
    collections: list[ReplayedCollection]


def _read(asked: Asked) -> pb.ReplayAnswerRequest:
    body = parse(Replaying, asked.body)
    message = pb.ReplayAnswerRequest(
        request_id=body.request_id, answer=body.answer, rewritten_question=body.rewritten_question
    )
    if body.request is None:
        return message
    raw = json.dumps(body.request).encode()
    # An id that the gateway made of another one is no UUID, and no request says it of itself.
    request_id = body.request_id if is_uuid(body.request_id) else ""
    if ("messages" in body.request) == ("prompt" in body.request):
        problem = "is the body of a chat completion, with messages, or of a completion, with a prompt"
        raise Failure(Reason.FIELD_INVALID, field="request", problem=problem)
    if "prompt" in body.request:
        message.complete.CopyFrom(of_completion(parse(TextCompletion, raw), request_id))
        return message
    sent = of_chat(parse(ChatCompletion, raw), request_id)
    if isinstance(sent, gateway_pb2.AskRequest):
        message.ask.CopyFrom(sent)
    else:
        message.chat.CopyFrom(sent)
    return message


def _told(_: pb.ReplayAnswerRequest, found: pb.ReplayAnswerResponse) -> dict[str, Any]:
    return {
        "object": "trivium.replay",
        "verdict": pb.ReplayVerdict.Name(found.verdict).removeprefix(_PREFIX).lower(),
        "explanation": found.explanation,
        "receipt": rendering.receipt(found.receipt),
        "replayed": rendering.receipt(found.replayed) if found.HasField("replayed") else None,
        "text": found.text,
        "differences": [_difference(item) for item in found.differences],
        "sources": [
            {"span": span(item.span), "title": item.title, "found": item.found, "text": item.text}
            for item in found.sources
        ],
        "collections": [
            {
                "collection": item.collection,
                "version": item.version,
                "present_version": item.present_version or None,
            }
            for item in found.collections
        ],
    }


def _difference(item: pb.TokenDifference) -> dict[str, Any]:
    return {
        "position": item.position,
        "start": item.start,
        "made": rendering.logprobs([item.made])[0] if item.HasField("made") else None,
        "rival": rendering.logprobs([item.rival])[0] if item.HasField("rival") else None,
        "rank": item.rank or None,
        # JSON has no infinity: a token that cannot come is infinitely far.
        "margin": item.margin if item.HasField("margin") and math.isfinite(item.margin) else None,
    }


_RPCS = pb.DESCRIPTOR.services_by_name["ReplayService"].methods_by_name
ROUTES = (
    Route(
        "POST",
        "/v1/trivium/replays",
        Unary(
            _read,
            lambda servicers, message, context: servicers.replays.ReplayAnswer(message, context),
            _told,
            sent=(("chat.messages", "messages"), ("ask.question", "messages"), ("complete.prompts", "prompt")),
        ),
        limited=True,
        rpc=_RPCS["ReplayAnswer"],
        summary="An earlier answer, computed again and held against its receipt.",
        body=Replaying,
        query=NoQuery,
        answer=ReplayShown,
    ),
)
