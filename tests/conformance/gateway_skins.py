"""The gateway's two skins behind one face, so that one case runs over both; here the face, and gRPC."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc
from google.protobuf import json_format
from trivium.common.v1 import chat_pb2
from trivium.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from trivium.retriever.v1 import retriever_pb2

from services.chassis.status import from_rpc_error

TIMEOUT_SECONDS = 240.0
# The id of the call in turns: each conversation has one at most.
CALL = "call_1"
_ROLES = {
    "system": chat_pb2.CHAT_ROLE_SYSTEM,
    "user": chat_pb2.CHAT_ROLE_USER,
    "assistant": chat_pb2.CHAT_ROLE_ASSISTANT,
}
_CHOICES = {
    "": chat_pb2.TOOL_CHOICE_UNSPECIFIED,
    "auto": chat_pb2.TOOL_CHOICE_AUTO,
    "none": chat_pb2.TOOL_CHOICE_NONE,
    "required": chat_pb2.TOOL_CHOICE_REQUIRED,
}
_NUMBERS: dict[tuple[str, Any], Any] = {
    ("abstention", "strict"): retriever_pb2.ABSTENTION_POLICY_STRICT,
    ("abstention", "off"): retriever_pb2.ABSTENTION_POLICY_OFF,
    ("path", "passages"): gateway_pb2.ANSWER_PATH_PASSAGES,
    ("path", "index"): gateway_pb2.ANSWER_PATH_INDEX,
    ("release", "sentence"): gateway_pb2.RELEASE_MODE_SENTENCE,
    ("unsupported", "withhold"): gateway_pb2.UNSUPPORTED_POLICY_WITHHOLD,
}
_FINISH = {
    chat_pb2.FINISH_REASON_STOP: "stop",
    chat_pb2.FINISH_REASON_LENGTH: "length",
    chat_pb2.FINISH_REASON_TOOL_CALLS: "tool_calls",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """One request, in neither skin's words.  ``collections`` makes it a question with sources, ``prompt`` a continuation.

    A turn is who speaks and what; ``call`` is the assistant's of the function that it names, ``tool`` what that returned.
    """

    turns: tuple[tuple[str, str], ...] = ()
    model: str = "base"
    prompt: str = ""
    # Functions by name, each with the JSON Schema of its arguments as text.
    tools: tuple[tuple[str, str], ...] = ()
    # auto, none, required, or the name of a function.
    tool_choice: str = ""
    collections: tuple[str, ...] = ()
    top_k: int = 0
    sampling: dict[str, Any] = field(default_factory=dict)
    schema: str = ""
    choice: tuple[str, ...] = ()
    # Of questions with sources: words of our own for how they are used.
    asking: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Told:
    """What came back, in neither skin's words; ids and times left out."""

    text: str
    finish: str
    usage: tuple[int, int]
    requested: str
    resolved: str
    version: str
    sampling: dict[str, Any]
    stages: tuple[str, ...]
    sources: tuple[tuple[Any, ...], ...] = ()
    citations: tuple[tuple[Any, ...], ...] = ()
    unresolved: tuple[int, ...] = ()
    logprobs: tuple[tuple[str, float], ...] = ()
    # The further answers to one prompt: text and why it ended.
    others: tuple[tuple[str, str], ...] = ()
    # Of functions: name and arguments.
    calls: tuple[tuple[str, str], ...] = ()
    # Of answers with sources: where from, whether it was refused or hedged and in which words, and verdicts on sentences.
    path: str = ""
    abstention: tuple[Any, ...] = ()
    verdicts: tuple[tuple[Any, ...], ...] = ()
    quotes: tuple[tuple[Any, ...], ...] = ()
    rewrite: tuple[Any, ...] = ()
    explained: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """A refusal: the catalogue's reason in lower case."""

    reason: str


class Skin(Protocol):
    """One way to ask the gateway."""

    def ask(self, wanted: Wanted) -> Told | Refused:
        """Send the request and gather the answer."""


class GrpcSkin:
    """``trivium.gateway.v1``."""

    def __init__(self, channel: grpc.Channel, key: str) -> None:
        self._stub = gateway_pb2_grpc.GatewayServiceStub(channel)
        self._metadata = (("authorization", f"Bearer {key}"),)

    def ask(self, wanted: Wanted) -> Told | Refused:
        """As Skin."""
        call, request = self._asking(wanted)
        try:
            events = list(call(request, timeout=TIMEOUT_SECONDS, metadata=self._metadata))
        except grpc.RpcError as error:
            return Refused(from_rpc_error(error).reason.lower())
        return _told(events)

    def _asking(self, wanted: Wanted) -> tuple[Any, Any]:
        if wanted.prompt:
            return self._stub.Complete, _complete(wanted)
        return (self._stub.Ask, _ask(wanted)) if wanted.collections else (self._stub.Chat, _chat(wanted))


def _ask(wanted: Wanted) -> gateway_pb2.AskRequest:
    *history, (_, question) = wanted.turns
    return gateway_pb2.AskRequest(
        model=wanted.model,
        question=question,
        collections=wanted.collections,
        history=_messages(history),
        top_k=wanted.top_k,
        sampling=chat_pb2.Sampling(**wanted.sampling),
        structured_output=_shape(wanted),
        **{name: _NUMBERS.get((name, value), value) for name, value in wanted.asking.items()},
    )


def _chat(wanted: Wanted) -> gateway_pb2.ChatRequest:
    return gateway_pb2.ChatRequest(
        model=wanted.model,
        messages=_messages(wanted.turns),
        sampling=chat_pb2.Sampling(**wanted.sampling),
        structured_output=_shape(wanted),
        tool_use=_tools(wanted),
    )


def _complete(wanted: Wanted) -> gateway_pb2.CompleteRequest:
    return gateway_pb2.CompleteRequest(
        model=wanted.model,
        prompt=wanted.prompt,
        sampling=chat_pb2.Sampling(**wanted.sampling),
        structured_output=_shape(wanted),
    )


def _messages(turns: Any) -> list[chat_pb2.ChatMessage]:
    return [_message(role, text) for role, text in turns]


def _message(role: str, text: str) -> chat_pb2.ChatMessage:
    if role == "call":
        call = chat_pb2.ToolCall(id=CALL, name=text, arguments="{}")
        return chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_ASSISTANT, tool_calls=[call])
    if role == "tool":
        return chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_TOOL, content=text, tool_call_id=CALL)
    return chat_pb2.ChatMessage(role=_ROLES[role], content=text)


def _tools(wanted: Wanted) -> chat_pb2.ToolUse | None:
    if not wanted.tools:
        return None
    named = wanted.tool_choice not in _CHOICES
    return chat_pb2.ToolUse(
        tools=[chat_pb2.Tool(name=name, parameters=schema) for name, schema in wanted.tools],
        choice=chat_pb2.TOOL_CHOICE_NAMED if named else _CHOICES[wanted.tool_choice],
        name=wanted.tool_choice if named else "",
    )


def _shape(wanted: Wanted) -> chat_pb2.StructuredOutput | None:
    if wanted.schema:
        return chat_pb2.StructuredOutput(json_schema=wanted.schema)
    if wanted.choice:
        return chat_pb2.StructuredOutput(choice=chat_pb2.Choices(values=wanted.choice))
    return None


def _told(events: list[Any]) -> Told:
    kinds = [event.WhichOneof("part") for event in events]
    assert kinds[-1] == "final"
    assert kinds.count("final") == 1
    # Sources before any text, and once.
    assert "sources" not in kinds[1:]
    told = [event.delta for event in events if event.WhichOneof("part") == "delta"]
    deltas = [delta for delta in told if not delta.choice]
    final = events[-1].final
    ends = list(getattr(final, "choices", ()))
    assert [end.choice for end in ends] == list(range(len(ends)))
    if ends:
        assert final.usage.completion_tokens == sum(end.completion_tokens for end in ends)
    sampling = json_format.MessageToDict(final.receipt.sampling, preserving_proto_field_name=True)
    return Told(
        text="".join(delta.text for delta in deltas),
        finish=_FINISH[final.finish_reason],
        usage=(final.usage.prompt_tokens, final.usage.completion_tokens),
        requested=final.receipt.requested_model,
        resolved=final.receipt.resolved_model,
        version=final.receipt.version_digest,
        sampling=comparable(sampling),
        stages=steady(timing.stage for timing in final.timings),
        sources=tuple(
            (item.span.marker, item.span.document, item.span.version, item.span.start, item.span.end, item.text)
            for item in (events[0].sources.sources if kinds[0] == "sources" else ())
        ),
        citations=tuple(
            (item.marker, item.answer_start, item.answer_end, item.span.document, item.span.start, item.span.end)
            for item in getattr(final, "citations", ())
        ),
        unresolved=tuple(getattr(final, "unresolved_markers", ())),
        logprobs=tuple((item.token, round(item.logprob, 4)) for delta in deltas for item in delta.logprobs),
        others=tuple(
            ("".join(delta.text for delta in told if delta.choice == end.choice), _FINISH[end.finish_reason])
            for end in ends[1:]
        ),
        calls=calls((part.index, part.id, part.name, part.arguments) for delta in deltas for part in delta.tool_calls),
        **(_judged(final) if isinstance(final, gateway_pb2.AskFinal) else {}),
    )


def _judged(final: gateway_pb2.AskFinal) -> dict[str, Any]:
    """What only the end of an answer with sources tells."""
    told, whole = final.abstention, final.HasField("rewrite")
    return {
        "path": gateway_pb2.AnswerPath.Name(final.path).removeprefix("ANSWER_PATH_").lower() if final.path else "",
        "abstention": (round(told.score, 4), told.abstained, told.hedged, told.says)
        if final.HasField("abstention")
        else (),
        "verdicts": tuple(
            (
                item.start,
                item.end,
                gateway_pb2.SupportVerdict.Name(item.verdict).removeprefix("SUPPORT_VERDICT_").lower(),
                item.marker,
                item.withheld,
            )
            for item in final.sentences
        ),
        "quotes": tuple((item.start, item.end, item.found) for item in final.quotes),
        "rewrite": (final.rewrite.question, final.rewrite.rewritten) if whole else (),
        "explained": steady(item.stage for item in final.stages),
    }


def calls(parts: Iterable[tuple[int, str, str, str]]) -> tuple[tuple[str, str], ...]:
    """Name and arguments of each call, from its parts in their order: place, id, name, more of the arguments."""
    told: list[tuple[str, str]] = []
    for place, call, name, arguments in parts:
        # The first part of a call has its id and its name, and no other one does.
        assert bool(call) == bool(name) == (place == len(told))
        if name:
            told.append((name, ""))
        told[place] = (told[place][0], told[place][1] + arguments)
    return tuple(told)


def steady(stages: Iterable[str]) -> tuple[str, ...]:
    """The stages that every request of a kind has, in their order: loading happens to the first one alone.

    A name is resolved beside embedding and retrieval, and which of them ends first is chance: it stands first here.
    """
    lasting = (stage for stage in stages if not stage.startswith("load"))
    return tuple(sorted(lasting, key=lambda stage: stage != "resolve"))


def comparable(sampling: dict[str, Any]) -> dict[str, Any]:
    """Without the seed that the request id determines, and with numbers as numbers."""
    return {
        name: round(float(value), 4) if isinstance(value, int | float | str) else value
        for name, value in sampling.items()
        if name != "seed" and value not in ([], "", {})
    }
