"""Chats, questions with sources and texts that are continued, over gRPC and over HTTP, whole and as events.

Arguments: ``messages`` are pairs of role and text; the role ``call`` is an assistant's call of the function that the text
names, the role ``tool`` the result of that call.  ``tools`` are pairs of name and JSON Schema.  ``trivium`` has what HTTP has
under that name.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from trivium.gateway.v1 import gateway_pb2

from tests.conformance.runner import Arguments, Operation, as_json, by_transport, comparable, record, word

# The id of the call in messages: each conversation has one at most.
_CALL = "call_1"
_CHOICES = ("auto", "none", "required")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, without ids and times."""

    text: str
    finish: str
    usage: tuple[int, int]
    requested: str
    resolved: str
    version: str
    sampling: dict[str, Any]
    stages: tuple[str, ...]
    sources: tuple[Any, ...]
    citations: tuple[Any, ...]
    unresolved: tuple[int, ...]
    logprobs: tuple[tuple[str, float], ...]
    # The further answers to one prompt: text and why it ended.
    others: tuple[tuple[str, str], ...]
    # Of functions: name and arguments.
    calls: tuple[tuple[str, str], ...]
    # Of answers with sources: where from, whether it was refused or hedged and in which words, and verdicts on sentences.
    path: str = ""
    abstention: tuple[Any, ...] = ()
    verdicts: tuple[Any, ...] = ()
    quotes: tuple[Any, ...] = ()
    rewrite: tuple[Any, ...] = ()
    explained: tuple[str, ...] = ()


def _message(arguments: Arguments) -> dict[str, Any]:
    """Return the fields that the three requests have in common."""
    shape: dict[str, Any] = {}
    if "schema" in arguments:
        shape = {"structured_output": {"json_schema": arguments["schema"]}}
    elif "choice" in arguments:
        shape = {"structured_output": {"choice": {"values": arguments["choice"]}}}
    return {"model": arguments.get("model", "base"), "sampling": arguments.get("sampling", {}), **shape}


def _chat(arguments: Arguments) -> dict[str, Any]:
    use = {"tool_use": _tool_use(arguments)} if "tools" in arguments else {}
    return {**_message(arguments), "messages": _messages(arguments["messages"]), **use}


def _ask(arguments: Arguments) -> dict[str, Any]:
    *history, (_, question) = arguments["messages"]
    asked = {name: arguments[name] for name in ("collections", "top_k") if name in arguments}
    return {
        **_message(arguments),
        "question": question,
        "history": _messages(history),
        **asked,
        **arguments.get("trivium", {}),
    }


def _messages(pairs: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    return [_turn(role, text, {"id": _CALL, "name": text, "arguments": "{}"}) for role, text in pairs]


def _turn(role: str, text: str, call: dict[str, Any]) -> dict[str, Any]:
    """Return a message, which both transports have in this shape, but for the call."""
    if role == "call":
        return {"role": "assistant", "tool_calls": [call]}
    return {"role": role, "content": text, **({"tool_call_id": _CALL} if role == "tool" else {})}


def _tool_use(arguments: Arguments) -> dict[str, Any]:
    choice = arguments.get("tool_choice", "unspecified")
    tools = [{"name": name, "parameters": schema} for name, schema in arguments["tools"]]
    if choice in (*_CHOICES, "unspecified"):
        return {"tools": tools, "choice": choice}
    return {"tools": tools, "choice": "named", "name": choice}


def _http_chat(arguments: Arguments) -> dict[str, Any]:
    sampling = dict(arguments.get("sampling", {}))
    logprobs = sampling.pop("logprobs", None)
    messages = [
        _turn(role, text, {"id": _CALL, "type": "function", "function": {"name": text, "arguments": "{}"}})
        for role, text in arguments["messages"]
    ]
    asked = {name: arguments[name] for name in ("choice", "collections", "top_k") if name in arguments}
    body = {
        "model": arguments.get("model", "base"),
        "messages": messages,
        "trivium": asked | arguments.get("trivium", {}),
        **({} if logprobs is None else {"logprobs": True, "top_logprobs": logprobs}),
        **(_http_tools(arguments) if "tools" in arguments else {}),
        **sampling,
    }
    if "schema" in arguments:
        named = {"name": "answer", "schema": json.loads(arguments["schema"]), "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": named}
    return {"json": body}


def _http_tools(arguments: Arguments) -> dict[str, Any]:
    functions = [{"name": name, **({"parameters": json.loads(it)} if it else {})} for name, it in arguments["tools"]]
    tools = {"tools": [{"type": "function", "function": function} for function in functions]}
    choice = arguments.get("tool_choice")
    if not choice:
        return tools
    return {
        **tools,
        "tool_choice": choice if choice in _CHOICES else {"type": "function", "function": {"name": choice}},
    }


def _http_complete(arguments: Arguments) -> dict[str, Any]:
    body = {"model": arguments.get("model", "base"), "prompt": arguments["prompt"], **arguments.get("sampling", {})}
    return {"json": body}


_source = record(
    *(
        "span.marker=marker",
        "span.document=document",
        "span.version=version",
        "span.start=start",
        "span.end=end",
        "text",
    )
)
_citation = record(
    *("marker", "answer_start", "answer_end", "span.document=document", "span.start=start", "span.end=end")
)
_sentence = record("start", "end", "verdict", "marker?", "withheld")
_quote = record("start=answer_start", "end=answer_end", "found")
_rewrite = record("question", "rewritten")


def _source_fields(it: Any, has: Mapping[str, bool]) -> dict[str, Any]:
    """Return what an answer from sources tells beside its text; ``has`` says which parts there are."""

    def told(name: str) -> Any:
        return record(name)(it) if has[name] else ()

    score, *refusal = record("score", "abstained", "hedged", "says")(told("abstention")) if has["abstention"] else (0,)
    return {
        "path": told("path") or "",
        "abstention": (round(score, 4), *refusal) if has["abstention"] else (),
        "verdicts": tuple(map(_sentence, told("sentences"))),
        "quotes": tuple(map(_quote, told("quotes"))),
        "rewrite": _rewrite(told("rewrite")) if has["rewrite"] else (),
        "explained": _stages(record("stage")(stage) for stage in told("stages")),
    }


_SOURCE_FIELDS = ("path", "abstention", "sentences", "quotes", "rewrite", "stages")


def _of_messages(events: list[Any]) -> Answer:
    kinds = [event.WhichOneof("part") for event in events]
    assert kinds[-1] == "final"
    assert kinds.count("final") == 1
    # Sources before any text, and once.
    assert "sources" not in kinds[1:]
    texts = [event.delta for event in events if event.WhichOneof("part") == "delta"]
    deltas = [delta for delta in texts if not delta.choice]
    final = events[-1].final
    has_sources = isinstance(final, gateway_pb2.AskFinal)
    ends = [] if has_sources else list(final.choices)
    assert [end.choice for end in ends] == list(range(len(ends)))
    if ends:
        assert final.usage.completion_tokens == sum(end.completion_tokens for end in ends)
    has = {
        name: name not in ("abstention", "rewrite") or final.HasField(name) for name in _SOURCE_FIELDS if has_sources
    }
    return Answer(
        text="".join(delta.text for delta in deltas),
        finish=word(final, "finish_reason"),
        usage=(final.usage.prompt_tokens, final.usage.completion_tokens),
        requested=final.receipt.requested_model,
        resolved=final.receipt.resolved_model,
        version=final.receipt.version_digest,
        sampling=comparable(as_json(final.receipt.sampling)),
        stages=_stages(timing.stage for timing in final.timings),
        sources=tuple(map(_source, events[0].sources.sources if kinds[0] == "sources" else ())),
        citations=tuple(map(_citation, final.citations if has_sources else ())),
        unresolved=tuple(final.unresolved_markers if has_sources else ()),
        logprobs=tuple((item.token, round(item.logprob, 4)) for delta in deltas for item in delta.logprobs),
        others=tuple(
            ("".join(delta.text for delta in texts if delta.choice == end.choice), word(end, "finish_reason"))
            for end in ends[1:]
        ),
        calls=_calls((part.index, part.id, part.name, part.arguments) for delta in deltas for part in delta.tool_calls),
        **(_source_fields(final, has) if has_sources else {}),
    )


def _of_json(answer: Any) -> Answer:
    return _of_events(answer) if isinstance(answer, list) else _of_body(answer)


def _of_events(chunks: list[dict[str, Any]]) -> Answer:
    *parts, last = chunks
    assert last["choices"] == []
    told = [_as_a_chats(chunk["choices"][0]) for chunk in parts]
    ended = [choice["index"] for choice in told if choice["finish_reason"]]
    # Each answer ends once, after all text, in their order.
    assert ended == list(range(len(ended)))
    assert all(choice["finish_reason"] for choice in told[-len(ended) :])
    choices, *others = [[choice for choice in told if choice["index"] == index] for index in ended]
    # Sources before any text: in the first chunk or in none.
    assert not any("sources" in chunk.get("trivium", {}) for chunk in parts[1:])
    return _answer(
        text=_text(choices),
        refusal=choices[-1]["delta"].get("refusal"),
        finish=choices[-1]["finish_reason"],
        usage=last["usage"],
        about=parts[-1]["trivium"] | {"sources": parts[0].get("trivium", {}).get("sources", [])},
        tokens=[item for choice in choices for item in (choice["logprobs"] or {"content": []})["content"]],
        others=tuple((_text(other), other[-1]["finish_reason"]) for other in others),
        calls=[part for choice in choices for part in choice["delta"].get("tool_calls", ())],
    )


def _text(chunks: list[dict[str, Any]]) -> str:
    return "".join(chunk["delta"].get("content") or "" for chunk in chunks)


def _as_a_chats(choice: dict[str, Any]) -> dict[str, Any]:
    """Return an answer, or more of it, as a chat has it; that of a continuation has its text and lists of its tokens."""
    if "text" not in choice:
        return choice
    told = {"content": choice["text"], "refusal": None}
    listed = choice["logprobs"]
    if listed is not None:
        shown = zip(listed["tokens"], listed["token_logprobs"], strict=True)
        listed = {"content": [{"token": token, "logprob": value} for token, value in shown]}
    return {**choice, "delta": told, "message": told, "logprobs": listed}


def _of_body(body: dict[str, Any]) -> Answer:
    assert [item["index"] for item in body["choices"]] == list(range(len(body["choices"])))
    choice, *others = [_as_a_chats(item) for item in body["choices"]]
    message = choice["message"]
    return _answer(
        text=message["content"] or "",
        refusal=message["refusal"],
        finish=choice["finish_reason"],
        usage=body["usage"],
        about={"sources": [], **body["trivium"]},
        tokens=choice["logprobs"]["content"] if choice["logprobs"] else [],
        others=tuple((other["message"]["content"], other["finish_reason"]) for other in others),
        calls=message.get("tool_calls", ()),
    )


def _answer(*, usage: Any, about: Any, tokens: list[Any], refusal: str | None, calls: Any, **same: Any) -> Answer:
    receipt, told = about["receipt"], about.get("abstention")
    # A refusal in place of an answer of a given shape stands only in the field that OpenAI's clients read.
    assert refusal == (told["says"] if told and told["abstained"] and not same["text"] else None)
    return Answer(
        **same,
        usage=(usage["prompt_tokens"], usage["completion_tokens"]),
        requested=receipt["requested_model"],
        resolved=receipt["resolved_model"],
        version=receipt["version"] or "",
        sampling=comparable(receipt["sampling"]),
        stages=_stages(timing["stage"] for timing in about["timings"]),
        sources=tuple(map(_source, about["sources"])),
        citations=tuple(map(_citation, about.get("citations", ()))),
        unresolved=tuple(about.get("unresolved_markers", ())),
        logprobs=tuple((item["token"], round(item["logprob"], 4)) for item in tokens),
        # An answer lists its calls whole; a stream sends parts with an index.
        calls=_calls(
            (
                part.get("index", place),
                part.get("id", ""),
                part["function"].get("name", ""),
                part["function"]["arguments"],
            )
            for place, part in enumerate(calls)
        ),
        **_source_fields(about, {name: bool(about.get(name)) for name in _SOURCE_FIELDS}),
    )


def _calls(parts: Iterable[tuple[int, str, str, str]]) -> tuple[tuple[str, str], ...]:
    """Return name and arguments of each call, from its parts in their order: place, id, name, more of the arguments."""
    told: list[tuple[str, str]] = []
    for place, call, name, arguments in parts:
        # The first part of a call has its id and its name, and no other one does.
        assert bool(call) == bool(name) == (place == len(told))
        if name:
            told.append((name, ""))
        told[place] = (told[place][0], told[place][1] + arguments)
    return tuple(told)


def _stages(stages: Iterable[str]) -> tuple[str, ...]:
    """Return the stages that every request of a kind has, in their order: loading happens to the first one alone.

    A name is resolved beside embedding and retrieval, and which of them ends first is chance: it stands first here.
    """
    lasting = (stage for stage in stages if not stage.startswith("load"))
    return tuple(sorted(lasting, key=lambda stage: stage != "resolve"))


_outcome = by_transport(_of_messages, _of_json)
_COMPLETIONS = "POST /chat/completions"
OPERATIONS: Mapping[str, Operation] = {
    "chat": Operation("GatewayService.Chat", _COMPLETIONS, _outcome, message=_chat, http=_http_chat),
    "ask": Operation("GatewayService.Ask", _COMPLETIONS, _outcome, message=_ask, http=_http_chat),
    "complete": Operation(
        "GatewayService.Complete",
        "POST /completions",
        _outcome,
        message=lambda arguments: {**_message(arguments), "prompt": arguments["prompt"]},
        http=_http_complete,
    ),
}
