"""The gateway's two skins behind one face, so that one case runs over both."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc
import httpx
from google.protobuf import json_format
from trivium.common.v1 import chat_pb2
from trivium.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from trivium.retriever.v1 import retriever_pb2

from services.chassis.status import from_rpc_error

TIMEOUT_SECONDS = 240.0
_ROLES = {
    "system": chat_pb2.CHAT_ROLE_SYSTEM,
    "user": chat_pb2.CHAT_ROLE_USER,
    "assistant": chat_pb2.CHAT_ROLE_ASSISTANT,
}
_NUMBERS: dict[tuple[str, Any], Any] = {
    ("abstention", "strict"): retriever_pb2.ABSTENTION_POLICY_STRICT,
    ("abstention", "off"): retriever_pb2.ABSTENTION_POLICY_OFF,
    ("path", "passages"): gateway_pb2.ANSWER_PATH_PASSAGES,
    ("path", "index"): gateway_pb2.ANSWER_PATH_INDEX,
    ("release", "sentence"): gateway_pb2.RELEASE_MODE_SENTENCE,
    ("unsupported", "withhold"): gateway_pb2.UNSUPPORTED_POLICY_WITHHOLD,
}
_FINISH = {chat_pb2.FINISH_REASON_STOP: "stop", chat_pb2.FINISH_REASON_LENGTH: "length"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """One request, in neither skin's words.  ``collections`` makes it a question with sources."""

    turns: tuple[tuple[str, str], ...]
    model: str = "base"
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
        call: Any = self._stub.Ask if wanted.collections else self._stub.Chat
        request = _ask(wanted) if wanted.collections else _chat(wanted)
        try:
            events = list(call(request, timeout=TIMEOUT_SECONDS, metadata=self._metadata))
        except grpc.RpcError as error:
            return Refused(from_rpc_error(error).reason.lower())
        return _told(events)


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
    )


def _messages(turns: Any) -> list[chat_pb2.ChatMessage]:
    return [chat_pb2.ChatMessage(role=_ROLES[role], content=text) for role, text in turns]


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
        sampling=_comparable(sampling),
        stages=_steady(timing.stage for timing in final.timings),
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
        "explained": _steady(item.stage for item in final.stages),
    }


def _steady(stages: Iterable[str]) -> tuple[str, ...]:
    """The stages that every request of a kind has: loading happens to the first one alone."""
    return tuple(stage for stage in stages if not stage.startswith("load"))


def _comparable(sampling: dict[str, Any]) -> dict[str, Any]:
    """Without the seed that the request id determines, and with numbers as numbers."""
    return {
        name: round(float(value), 4) if isinstance(value, int | float | str) else value
        for name, value in sampling.items()
        if name != "seed" and value not in ([], "", {})
    }


class HttpSkin:
    """OpenAI's chat completions, in one piece or as events."""

    def __init__(self, client: httpx.Client, key: str, *, stream: bool) -> None:
        self._client = client
        self._headers = {"authorization": f"Bearer {key}"}
        self._stream = stream

    def ask(self, wanted: Wanted) -> Told | Refused:
        """As Skin."""
        body = self._body(wanted)
        response = self._client.post("/v1/chat/completions", json=body, headers=self._headers, timeout=TIMEOUT_SECONDS)
        if response.status_code != 200:
            return Refused(response.json()["error"]["code"])
        return _gathered(_events(response.text)) if self._stream else _completion(response.json())

    def _body(self, wanted: Wanted) -> dict[str, Any]:
        sampling = dict(wanted.sampling)
        body: dict[str, Any] = {
            "model": wanted.model,
            "messages": [{"role": role, "content": text} for role, text in wanted.turns],
            "stream": self._stream,
        }
        logprobs = sampling.pop("logprobs", None)
        if logprobs is not None:
            body |= {"logprobs": True, "top_logprobs": logprobs}
        if self._stream:
            body["stream_options"] = {"include_usage": True}
        if wanted.schema:
            named = {"name": "answer", "schema": json.loads(wanted.schema), "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": named}
        extension: dict[str, Any] = {}
        if wanted.collections:
            extension |= {"collections": list(wanted.collections), "top_k": wanted.top_k, **wanted.asking}
        if wanted.choice:
            extension["choice"] = list(wanted.choice)
        return body | sampling | {"trivium": extension}


def _events(text: str) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def _gathered(chunks: list[dict[str, Any]]) -> Told:
    *parts, last = chunks
    assert last["choices"] == []
    told = [chunk["choices"][0] for chunk in parts]
    ended = [choice["index"] for choice in told if choice["finish_reason"]]
    # Each answer ends once, after all text, in their order.
    assert ended == list(range(len(ended)))
    assert all(choice["finish_reason"] for choice in told[-len(ended) :])
    choices, *others = [[choice for choice in told if choice["index"] == index] for index in ended]
    # Sources before any text: in the first chunk or in none.
    assert not any("sources" in chunk.get("trivium", {}) for chunk in parts[1:])
    tokens = [item for choice in choices for item in (choice["logprobs"] or {"content": []})["content"]]
    return _of(
        text=_said(choices),
        refusal=choices[-1]["delta"].get("refusal"),
        finish=choices[-1]["finish_reason"],
        usage=last["usage"],
        about=parts[-1]["trivium"] | {"sources": parts[0].get("trivium", {}).get("sources", [])},
        tokens=tokens,
        others=tuple((_said(other), other[-1]["finish_reason"]) for other in others),
    )


def _said(chunks: list[dict[str, Any]]) -> str:
    return "".join(chunk["delta"].get("content") or "" for chunk in chunks)


def _completion(body: dict[str, Any]) -> Told:
    choice, *others = body["choices"]
    assert [item["index"] for item in body["choices"]] == list(range(1 + len(others)))
    tokens = choice["logprobs"]["content"] if choice["logprobs"] else []
    about = {"sources": [], **body["trivium"]}
    told = tuple((other["message"]["content"], other["finish_reason"]) for other in others)
    message = choice["message"]
    text = message["content"] or ""
    return _of(text, choice["finish_reason"], body["usage"], about, tokens, told, refusal=message["refusal"])


def _of(
    text: str,
    finish: str,
    usage: dict[str, Any],
    about: dict[str, Any],
    tokens: list[Any],
    others: tuple[tuple[str, str], ...] = (),
    refusal: str | None = None,
) -> Told:
    receipt = about["receipt"]
    told, rewrite = about.get("abstention"), about.get("rewrite")
    # What is refused in the place of a shape stands where OpenAI's clients look for it, and nowhere else.
    assert refusal == (told["says"] if told and told["abstained"] and not text else None)
    return Told(
        text=text,
        finish=finish,
        usage=(usage["prompt_tokens"], usage["completion_tokens"]),
        requested=receipt["requested_model"],
        resolved=receipt["resolved_model"],
        version=receipt["version"] or "",
        sampling=_comparable(receipt["sampling"]),
        stages=_steady(timing["stage"] for timing in about["timings"]),
        sources=tuple(
            (item["marker"], item["document"], item["version"], item["start"], item["end"], item["text"])
            for item in about["sources"]
        ),
        citations=tuple(
            (item["marker"], item["answer_start"], item["answer_end"], item["document"], item["start"], item["end"])
            for item in about.get("citations", ())
        ),
        unresolved=tuple(about.get("unresolved_markers", ())),
        logprobs=tuple((item["token"], round(item["logprob"], 4)) for item in tokens),
        others=others,
        path=about.get("path", ""),
        abstention=(round(told["score"], 4), told["abstained"], told["hedged"], told["says"]) if told else (),
        verdicts=tuple(
            (item["start"], item["end"], item["verdict"], item["marker"] or 0, item["withheld"])
            for item in about.get("sentences", ())
        ),
        quotes=tuple((item["answer_start"], item["answer_end"], item["found"]) for item in about.get("quotes", ())),
        rewrite=(rewrite["question"], rewrite["rewritten"]) if rewrite else (),
        explained=_steady(item["stage"] for item in about.get("stages", ())),
    )
