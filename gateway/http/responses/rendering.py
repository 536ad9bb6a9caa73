"""Responses, their items and their events as OpenAI's clients read them."""

import json
from collections.abc import Sequence
from typing import Any

from trivium.common.v1 import chat_pb2, receipt_pb2
from trivium.gateway.v1 import responses_pb2 as pb

from gateway.http import asking, rendering
from gateway.http.responses import tools
from gateway.http.spans import span
from gateway.http.vector_stores.rendering import attributes

_ITEMS = {
    pb.RESPONSE_ITEM_STATUS_IN_PROGRESS: "in_progress",
    pb.RESPONSE_ITEM_STATUS_COMPLETED: "completed",
    pb.RESPONSE_ITEM_STATUS_INCOMPLETE: "incomplete",
}
_STATUSES = {
    pb.RESPONSE_STATUS_IN_PROGRESS: "in_progress",
    pb.RESPONSE_STATUS_COMPLETED: "completed",
    pb.RESPONSE_STATUS_INCOMPLETE: "incomplete",
    pb.RESPONSE_STATUS_FAILED: "failed",
}
_ROLES = {
    chat_pb2.CHAT_ROLE_SYSTEM: "system",
    chat_pb2.CHAT_ROLE_USER: "user",
    chat_pb2.CHAT_ROLE_ASSISTANT: "assistant",
}


def response(message: pb.Response, *, results: bool) -> dict[str, Any]:
    """A response, with the passages of its search if they are wanted."""
    settings = message.settings
    cut = message.status == pb.RESPONSE_STATUS_INCOMPLETE
    return {
        "id": message.response,
        "object": "response",
        "created_at": message.create_time.seconds,
        "status": _STATUSES.get(message.status, "failed"),
        "background": False,
        "error": _error(message),
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "instructions": settings.instructions or None,
        "max_output_tokens": _set(settings.sampling, "max_tokens"),
        "metadata": dict(settings.metadata),
        "model": settings.model or "base",
        "output": [item(it, results=results) for it in message.output],
        "parallel_tool_calls": bool(settings.tool_use.tools) and not settings.tool_use.single,
        "previous_response_id": settings.previous_response or None,
        "reasoning": {"effort": None, "summary": None},
        "store": settings.store,
        "temperature": _set(settings.sampling, "temperature"),
        "text": {"format": _format(settings)},
        "tool_choice": tools.told_choice(settings),
        "tools": tools.told(settings),
        "top_p": _set(settings.sampling, "top_p"),
        "truncation": "disabled",
        "usage": _usage(message.usage) if message.HasField("usage") else None,
        "trivium": _made_of(message),
    }


def item(message: pb.ResponseItem, *, results: bool = False) -> dict[str, Any]:
    """One item of an input or an output."""
    about = {"id": message.item, "status": _ITEMS.get(message.status, "completed")}
    if message.WhichOneof("kind") == "file_search_call":
        call = message.file_search_call
        return {
            **about,
            "type": "file_search_call",
            "queries": list(call.queries),
            "results": [_result(it) for it in call.results] if results else None,
        }
    if message.WhichOneof("kind") == "function_call":
        made = message.function_call
        called = {"call_id": made.call, "name": made.name, "arguments": made.arguments}
        return {**about, "type": "function_call", **called}
    if message.WhichOneof("kind") == "function_call_output":
        returned = message.function_call_output
        return {**about, "type": "function_call_output", "call_id": returned.call, "output": returned.output}
    said = message.message
    role = _ROLES.get(said.role, "user")
    if role == "assistant":
        content = [_output_part(text, said.citations, refused=said.refused) for text in said.parts]
    else:
        content = [{"type": "input_text", "text": text} for text in said.parts]
    return {**about, "type": "message", "role": role, "content": content}


def event(message: pb.CreateResponseResponse, *, results: bool) -> bytes:
    """One server-sent event."""
    body = {**_event(message, results), "sequence_number": message.sequence_number}
    text = json.dumps(body, ensure_ascii=False)
    return f"event: {body['type']}\ndata: {text}\n\n".encode()


def failure(error: dict[str, Any], sequence_number: int) -> bytes:
    """The event that ends a stream which failed, of the error as OpenAI's clients read it elsewhere.

    They raise what stands in ``error`` of an event, and the reference of its events has the same beside ``type``.
    """
    shown = {name: error[name] for name in ("code", "message", "param")}
    body = {"type": "error", "sequence_number": sequence_number, **shown, "error": error}
    return f"event: error\ndata: {json.dumps(body, ensure_ascii=False)}\n\n".encode()


def _event(message: pb.CreateResponseResponse, results: bool) -> dict[str, Any]:
    kind = message.WhichOneof("event")
    match kind:
        case "created" | "in_progress" | "completed" | "incomplete" | "failed":
            told = response(getattr(message, kind), results=results)
            return {"type": f"response.{kind}", "response": told}
        case "item_added" | "item_done":
            output = getattr(message, kind)
            told = item(output.item, results=results)
            name = kind.removeprefix("item_")
            return {"type": f"response.output_item.{name}", "output_index": output.output_index, "item": told}
        case "file_search":
            progress = message.file_search
            phase = pb.FileSearchPhase.Name(progress.phase).removeprefix("FILE_SEARCH_PHASE_").lower()
            return {
                "type": f"response.file_search_call.{phase}",
                "output_index": progress.output_index,
                "item_id": progress.item,
            }
        case "arguments_delta" | "arguments_done":
            more = getattr(message, kind)
            name, field = ("delta", "delta") if kind == "arguments_delta" else ("done", "arguments")
            place = {"item_id": more.item, "output_index": more.output_index}
            return {"type": f"response.function_call_arguments.{name}", **place, field: more.arguments}
        case "citation_added":
            cited = message.citation_added
            return {
                "type": "response.output_text.annotation.added",
                **_place(cited.output_index, cited.item),
                "annotation_index": cited.annotation_index,
                "annotation": _annotation(cited.citation),
            }
        case _:
            return _text_event(message)


def _text_event(message: pb.CreateResponseResponse) -> dict[str, Any]:
    kind = message.WhichOneof("event") or "part_done"
    text: pb.OutputText = getattr(message, kind)
    place, name = _place(text.output_index, text.item), kind.partition("_")[2]
    if kind in ("part_added", "part_done"):
        part = _output_part(text.text, text.citations, refused=text.refused)
        return {"type": f"response.content_part.{name}", **place, "part": part}
    if text.refused:
        said = {"delta" if name == "delta" else "refusal": text.text}
        return {"type": f"response.refusal.{name}", **place, **said}
    said = {"delta" if name == "delta" else "text": text.text}
    return {"type": f"response.output_text.{name}", **place, **said, "logprobs": []}


def _place(output_index: int, item_id: str) -> dict[str, Any]:
    return {"item_id": item_id, "output_index": output_index, "content_index": 0}


def _output_part(text: str, citations: Sequence[pb.FileCitation], *, refused: bool) -> dict[str, Any]:
    if refused:
        return {"type": "refusal", "refusal": text}
    return {
        "type": "output_text",
        "text": text,
        "annotations": [_annotation(it) for it in citations],
        "logprobs": [],
    }


def _annotation(citation: pb.FileCitation) -> dict[str, Any]:
    return {
        "type": "file_citation",
        "index": citation.index,
        "file_id": citation.file,
        "filename": citation.filename,
        "trivium": {"end_index": citation.end_index, **span(citation.span)},
    }


def _result(result: pb.FileSearchResult) -> dict[str, Any]:
    return {
        "file_id": result.file,
        "filename": result.filename,
        "score": result.score,
        "text": result.text,
        "attributes": attributes(result.attributes),
        "vector_store_id": result.span.collection,
        "trivium": span(result.span),
    }


def _format(settings: pb.ResponseSettings) -> dict[str, Any]:
    match settings.structured_output.WhichOneof("constraint"):
        case "json_schema":
            schema = json.loads(settings.structured_output.json_schema)
            return {"type": "json_schema", "name": settings.format_name, "schema": schema, "strict": True}
        case "json_object":
            return {"type": "json_object"}
        case _:
            return {"type": "text"}


def _error(message: pb.Response) -> dict[str, Any] | None:
    if not message.HasField("error"):
        return None
    limited = message.error.reason in (
        "OVERLOADED",
        "TOO_BUSY_FOR_DEADLINE",
        "RATE_LIMIT_EXCEEDED",
        "INSUFFICIENT_QUOTA",
    )
    code = "rate_limit_exceeded" if limited else "server_error"
    return {"code": code, "message": message.error.message, "trivium": {"reason": message.error.reason.lower()}}


def _usage(usage: receipt_pb2.Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_prompt_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def _made_of(message: pb.Response) -> dict[str, Any] | None:
    """What an answer was made of; before its end, and where it failed, what was decided before its text, if anything was."""
    left_out = rendering.sources(message.left_out)
    found = {"left_out": left_out} if left_out else {}
    if not message.HasField("receipt"):
        return {**asking.decided(message), **found} or None
    receipt = message.receipt
    checked = {"unresolved_markers": list(message.unresolved_markers)} if message.path else {}
    return {
        "request_id": receipt.request_id,
        "resolved_model": receipt.resolved_model,
        "version": receipt.version_digest or None,
        "receipt": rendering.receipt(receipt),
        "timings": [{"stage": it.stage, "seconds": it.seconds, "input_size": it.input_size} for it in message.timings],
        "fallbacks": [{"stage": it.stage, "instead": it.instead, "reason": it.reason} for it in message.fallbacks],
        **asking.ended(message),
        **found,
        **checked,
    }


def _set(sampling: chat_pb2.Sampling, name: str) -> float | None:
    """What was stated; None where it is the model's own default."""
    return getattr(sampling, name) if sampling.HasField(name) else None  # type: ignore[arg-type]  # a name of Sampling
