"""OpenAI's shapes of chats and continuations, whole or as events, behind the face of ``gateway_skins``."""

import json
from typing import Any

import httpx

from tests.conformance.gateway_skins import CALL, TIMEOUT_SECONDS, Refused, Told, Wanted, calls, comparable, steady


class HttpSkin:
    """OpenAI's completions, of chats and of texts, in one piece or as events."""

    def __init__(self, client: httpx.Client, key: str, *, stream: bool) -> None:
        self._client = client
        self._headers = {"authorization": f"Bearer {key}"}
        self._stream = stream

    def ask(self, wanted: Wanted) -> Told | Refused:
        """As Skin."""
        path, body = ("completions", self._continuation(wanted)) if wanted.prompt else self._turn(wanted)
        response = self._client.post(f"/v1/{path}", json=body, headers=self._headers, timeout=TIMEOUT_SECONDS)
        if response.status_code != 200:
            return Refused(response.json()["error"]["code"])
        return _gathered(_events(response.text)) if self._stream else _completion(response.json())

    def _turn(self, wanted: Wanted) -> tuple[str, dict[str, Any]]:
        sampling = dict(wanted.sampling)
        body = self._begun(wanted) | {"messages": [_message(role, text) for role, text in wanted.turns]}
        logprobs = sampling.pop("logprobs", None)
        if logprobs is not None:
            body |= {"logprobs": True, "top_logprobs": logprobs}
        if wanted.schema:
            named = {"name": "answer", "schema": json.loads(wanted.schema), "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": named}
        if wanted.tools:
            body |= _tools(wanted)
        if wanted.collections:
            asked = {"collections": list(wanted.collections), "top_k": wanted.top_k, **wanted.asking}
            body["trivium"] = body["trivium"] | asked
        return "chat/completions", body | sampling

    def _continuation(self, wanted: Wanted) -> dict[str, Any]:
        return self._begun(wanted) | {"prompt": wanted.prompt, **wanted.sampling}

    def _begun(self, wanted: Wanted) -> dict[str, Any]:
        body: dict[str, Any] = {"model": wanted.model, "stream": self._stream}
        if self._stream:
            body["stream_options"] = {"include_usage": True}
        return body | {"trivium": {"choice": list(wanted.choice)} if wanted.choice else {}}


def _message(role: str, text: str) -> dict[str, Any]:
    if role == "call":
        call = {"id": CALL, "type": "function", "function": {"name": text, "arguments": "{}"}}
        return {"role": "assistant", "content": None, "tool_calls": [call]}
    return {"role": role, "content": text, **({"tool_call_id": CALL} if role == "tool" else {})}


def _tools(wanted: Wanted) -> dict[str, Any]:
    functions = [{"name": name, **({"parameters": json.loads(it)} if it else {})} for name, it in wanted.tools]
    told: dict[str, Any] = {"tools": [{"type": "function", "function": function} for function in functions]}
    if wanted.tool_choice in ("auto", "none", "required"):
        told["tool_choice"] = wanted.tool_choice
    elif wanted.tool_choice:
        told["tool_choice"] = {"type": "function", "function": {"name": wanted.tool_choice}}
    return told


def _events(text: str) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def _gathered(chunks: list[dict[str, Any]]) -> Told:
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
    tokens = [item for choice in choices for item in (choice["logprobs"] or {"content": []})["content"]]
    return _of(
        text=_said(choices),
        refusal=choices[-1]["delta"].get("refusal"),
        finish=choices[-1]["finish_reason"],
        usage=last["usage"],
        about=parts[-1]["trivium"] | {"sources": parts[0].get("trivium", {}).get("sources", [])},
        tokens=tokens,
        others=tuple((_said(other), other[-1]["finish_reason"]) for other in others),
        called=_parts([part for choice in choices for part in choice["delta"].get("tool_calls", ())]),
    )


def _said(chunks: list[dict[str, Any]]) -> str:
    return "".join(chunk["delta"].get("content") or "" for chunk in chunks)


def _as_a_chats(choice: dict[str, Any]) -> dict[str, Any]:
    """An answer, or more of it, as a chat would have it; that of a continuation has its text and lists of its tokens."""
    if "text" not in choice:
        return choice
    told = {"content": choice["text"], "refusal": None}
    listed = choice["logprobs"]
    if listed is not None:
        shown = zip(listed["tokens"], listed["token_logprobs"], strict=True)
        listed = {"content": [{"token": token, "logprob": value} for token, value in shown]}
    return {**choice, "delta": told, "message": told, "logprobs": listed}


def _completion(body: dict[str, Any]) -> Told:
    assert [item["index"] for item in body["choices"]] == list(range(len(body["choices"])))
    choice, *others = [_as_a_chats(item) for item in body["choices"]]
    message = choice["message"]
    return _of(
        text=message["content"] or "",
        refusal=message["refusal"],
        finish=choice["finish_reason"],
        usage=body["usage"],
        about={"sources": [], **body["trivium"]},
        tokens=choice["logprobs"]["content"] if choice["logprobs"] else [],
        others=tuple((other["message"]["content"], other["finish_reason"]) for other in others),
        called=_parts(message.get("tool_calls", ())),
    )


def _parts(told: Any) -> tuple[tuple[str, str], ...]:
    """The calls that are told whole, or in parts that have their places."""
    return calls(
        (part.get("index", place), part.get("id", ""), part["function"].get("name", ""), part["function"]["arguments"])
        for place, part in enumerate(told)
    )


def _of(
    *,
    text: str,
    finish: str,
    usage: dict[str, Any],
    about: dict[str, Any],
    tokens: list[Any],
    others: tuple[tuple[str, str], ...],
    refusal: str | None,
    called: tuple[tuple[str, str], ...],
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
        sampling=comparable(receipt["sampling"]),
        stages=steady(timing["stage"] for timing in about["timings"]),
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
        calls=called,
        path=about.get("path", ""),
        abstention=(round(told["score"], 4), told["abstained"], told["hedged"], told["says"]) if told else (),
        verdicts=tuple(
            (item["start"], item["end"], item["verdict"], item["marker"] or 0, item["withheld"])
            for item in about.get("sentences", ())
        ),
        quotes=tuple((item["answer_start"], item["answer_end"], item["found"]) for item in about.get("quotes", ())),
        rewrite=(rewrite["question"], rewrite["rewritten"]) if rewrite else (),
        explained=steady(item["stage"] for item in about.get("stages", ())),
    )
