"""Answers computed again and held against their receipts: nouns, and their way to the wire and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message
from trivium.gateway.v1 import gateway_pb2
from trivium.gateway.v1 import replays_pb2 as pb

from trivium_client import answers, answers_wire, asking_wire
from trivium_client.nouns import Span
from trivium_client.wire import word

# What each kind of request has, and no other.
_KINDS: dict[str, tuple[str, type[Message]]] = {
    "messages": ("chat", gateway_pb2.ChatRequest),
    "prompt": ("complete", gateway_pb2.CompleteRequest),
    "prompts": ("complete", gateway_pb2.CompleteRequest),
    "question": ("ask", gateway_pb2.AskRequest),
}


@dataclass(frozen=True, slots=True)
class Difference:
    """A token, from 0, at which a text is not what the weights say; `start` is its place in the text.

    `made` is the weights' own, None where they had ended; `rival` the likeliest that spells the text, of which `rank` is the
    place from 1 and `margin` how much less likely it is, in nats: all None where none of the likeliest does.
    """

    position: int
    start: int
    made: answers.TokenLogprob | None
    rival: answers.TokenLogprob | None
    rank: int | None
    margin: float | None


@dataclass(frozen=True, slots=True)
class ReplayedSource:
    """A source of the prompt, read again at its version; `found` says whether that is still kept."""

    span: Span
    title: str
    found: bool
    text: str


@dataclass(frozen=True, slots=True)
class ReplayedCollection:
    """A collection that the answer is from: its version then and now, the latter empty where it is gone or has expired."""

    collection: str
    version: str
    present_version: str


@dataclass(frozen=True, slots=True)
class Replay:
    """What was found: `verdict` is exact, explained, different, undecided, prompt_differs or weights_gone.

    `replayed` is None where nothing was generated, else the replay's own receipt, and `text` what the model said then.
    """

    verdict: str
    explanation: str
    receipt: answers.Receipt
    replayed: answers.Receipt | None
    text: str
    differences: tuple[Difference, ...]
    sources: tuple[ReplayedSource, ...]
    collections: tuple[ReplayedCollection, ...] = ()


def to_wire(
    request_id: str, request: Mapping[str, Any] | None, answer: str | None, rewritten_question: str
) -> pb.ReplayAnswerRequest:
    """To the wire.  Raises ValueError where the request is none."""
    message = pb.ReplayAnswerRequest(request_id=request_id, answer=answer, rewritten_question=rewritten_question)
    if request is None:
        return message
    kinds = [kind for field, kind in _KINDS.items() if field in request]
    if len(kinds) != 1:
        raise ValueError(f"a request to replay has one of {', '.join(_KINDS)}")
    ((name, kind),) = kinds
    fields = {**request, **{field: _turns(request[field]) for field in ("messages", "history") if field in request}}
    try:
        sent = json_format.ParseDict(fields, kind())
    except json_format.ParseError as error:
        raise ValueError(
            f"the request to replay is no {kind.DESCRIPTOR.name}: {error}. A body as it was sent over HTTP is replayed by "
            "POST /v1/trivium/replays."
        ) from None
    getattr(message, name).CopyFrom(sent)
    return message


def _turns(turns: Any) -> Any:
    """Turns whose roles may be in short, as everybody writes them."""
    if not isinstance(turns, list):
        return turns
    return [
        {**turn, "role": _role(turn["role"])} if isinstance(turn, dict) and "role" in turn else turn for turn in turns
    ]


def _role(role: Any) -> Any:
    return f"CHAT_ROLE_{role.upper()}" if isinstance(role, str) and not role.startswith("CHAT_ROLE_") else role


def of_wire(message: pb.ReplayAnswerResponse) -> Replay:
    """From the wire."""
    return Replay(
        verdict=word(pb.ReplayVerdict, message.verdict),
        explanation=message.explanation,
        receipt=answers_wire.receipt(message.receipt),
        replayed=answers_wire.receipt(message.replayed) if message.HasField("replayed") else None,
        text=message.text,
        differences=tuple(map(_difference, message.differences)),
        sources=tuple(
            ReplayedSource(asking_wire.span(item.span), item.title, item.found, item.text) for item in message.sources
        ),
        collections=tuple(
            ReplayedCollection(item.collection, item.version, item.present_version) for item in message.collections
        ),
    )


def _difference(message: pb.TokenDifference) -> Difference:
    return Difference(
        position=message.position,
        start=message.start,
        made=answers_wire.token_logprob(message.made) if message.HasField("made") else None,
        rival=answers_wire.token_logprob(message.rival) if message.HasField("rival") else None,
        rank=message.rank or None,
        margin=message.margin if message.HasField("margin") else None,
    )
