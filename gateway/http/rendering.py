"""What every answer over HTTP shares: usage, probabilities, and the ``trivium`` object of what it was made of."""

import math
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from trivium.common.v1 import chat_pb2, receipt_pb2
from trivium.gateway.v1 import gateway_pb2

from gateway.generation import Sampling
from gateway.http import asking
from gateway.http.spans import span
from gateway.peers.messages import of_sampling

_NO_LOGPROB = -9999.0
_FINISHES = {chat_pb2.FINISH_REASON_STOP: "stop", chat_pb2.FINISH_REASON_TOOL_CALLS: "tool_calls"}
_SAMPLING = tuple(field.name for field in fields(Sampling))
Final = gateway_pb2.AskFinal | gateway_pb2.GenerationFinal


def finishes(final: Final) -> list[str]:
    """OpenAI's words for why each answer ended, by number; an aborted one is cut, not finished."""
    ended = final.choices if isinstance(final, gateway_pb2.GenerationFinal) else ()
    reasons = [end.finish_reason for end in ended] or [final.finish_reason]
    return [_FINISHES.get(reason, "length") for reason in reasons]


def usage(message: receipt_pb2.Usage) -> dict[str, Any]:
    """Tokens that a request cost."""
    return {
        "prompt_tokens": message.prompt_tokens,
        "completion_tokens": message.completion_tokens,
        "total_tokens": message.prompt_tokens + message.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": message.cached_prompt_tokens},
    }


def logprobs(items: Iterable[chat_pb2.TokenLogprob]) -> list[dict[str, Any]]:
    """Tokens with their probabilities as chat completions have them."""
    return [{**_token(item), "top_logprobs": [_token(rival) for rival in item.top]} for item in items]


def logprob(item: chat_pb2.TokenLogprob) -> float:
    """A token's log probability as JSON can hold it: where it is no finite number, OpenAI's -9999.

    An adapter of finite but enormous weights makes such answers; JSON has no word for them.
    """
    return item.logprob if math.isfinite(item.logprob) else _NO_LOGPROB


def _token(item: chat_pb2.TokenLogprob) -> dict[str, Any]:
    # Part of a character has no text of its own, and its bytes are not known here.
    whole = "\ufffd" not in item.token
    return {
        "token": item.token,
        "logprob": logprob(item),
        "bytes": list(item.token.encode()) if whole else None,
    }


def sources(items: Iterable[gateway_pb2.Source]) -> list[dict[str, Any]]:
    """What the answer may cite, or what found no room."""
    return [
        {
            **span(item.span),
            "title": item.title,
            "heading_path": list(item.heading_path),
            "text": item.text,
            "score": item.score,
        }
        for item in items
    ]


def found(message: gateway_pb2.Sources) -> dict[str, Any]:
    """What is told before an answer with sources: these, and what was decided with them."""
    about = asking.decided(message)
    left_out = sources(message.left_out)
    return {"sources": sources(message.sources), **about, **({"left_out": left_out} if left_out else {})}


def receipt(message: receipt_pb2.Receipt) -> dict[str, Any]:
    """Everything that determined an answer."""
    sampling = of_sampling(message.sampling)
    return {
        "request_id": message.request_id,
        "requested_model": message.requested_model,
        "resolved_model": message.resolved_model,
        "version": message.version_digest or None,
        "base_digest": message.base_digest,
        "engine": message.engine,
        "engine_build": message.engine_build,
        "engine_slot": message.engine_slot,
        "template_digest": message.template_digest,
        "prompt_tokens_digest": message.prompt_tokens_digest,
        "completion_digest": message.completion_digest,
        "sampling": {name: value for name in _SAMPLING if (value := getattr(sampling, name)) not in (None, (), {})},
        "sources": [span(item) for item in message.sources],
        "collections": [{"collection": item.collection, "version": item.version} for item in message.collections],
        "usage": usage(message.usage),
        "complete_time": message.complete_time.ToJsonString(),
    }


def made_of(final: Final) -> dict[str, Any]:
    """The ``trivium`` object of an answer: exact version, receipt, timings, and citations where sources were asked for."""
    about: dict[str, Any] = {
        "request_id": final.receipt.request_id,
        "resolved_model": final.receipt.resolved_model,
        "version": final.receipt.version_digest or None,
        "receipt": receipt(final.receipt),
        "timings": [
            {"stage": item.stage, "seconds": item.seconds, "input_size": item.input_size} for item in final.timings
        ],
    }
    if final.fallbacks:
        about["fallbacks"] = [
            {"stage": item.stage, "instead": item.instead, "reason": item.reason} for item in final.fallbacks
        ]
    if isinstance(final, gateway_pb2.AskFinal):
        about["citations"] = [
            {"answer_start": item.answer_start, "answer_end": item.answer_end, **span(item.span)}
            for item in final.citations
        ]
        about["unresolved_markers"] = list(final.unresolved_markers)
        about |= asking.ended(final)
    return about
