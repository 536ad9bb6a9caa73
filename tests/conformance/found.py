"""What a response tells of its answer from sources, in the same words of both doors; times are never the same twice."""

from collections.abc import Mapping
from typing import Any

from trivium.gateway.v1 import gateway_pb2, responses_pb2
from trivium.retriever.v1 import retriever_pb2

Found = dict[str, Any]
# Written with words for keywords, which its stub does not know of.
_SETTINGS: Any = responses_pb2.ResponseSettings
# By the field, its enum and what its values begin with.
_WORDS: dict[str, tuple[Any, str]] = {
    "abstention": (retriever_pb2.AbstentionPolicy, "ABSTENTION_POLICY_"),
    "path": (gateway_pb2.AnswerPath, "ANSWER_PATH_"),
    "release": (gateway_pb2.ReleaseMode, "RELEASE_MODE_"),
    "unsupported": (gateway_pb2.UnsupportedPolicy, "UNSUPPORTED_POLICY_"),
    "verdict": (gateway_pb2.SupportVerdict, "SUPPORT_VERDICT_"),
}


def settings(manner: Mapping[str, Any]) -> responses_pb2.ResponseSettings:
    """What the ``trivium`` of HTTP says, as the contract has it."""
    said = {name: _WORDS[name][0].Value(_WORDS[name][1] + it.upper()) for name, it in manner.items() if name in _WORDS}
    rest = {name: value for name, value in manner.items() if name not in said and name != "fallbacks"}
    made: responses_pb2.ResponseSettings = _SETTINGS(**said, **rest, no_fallbacks=not manner.get("fallbacks", True))
    return made


def of_message(it: responses_pb2.Response) -> Found:
    """Of gRPC."""
    return {
        "path": _word("path", it.path),
        "policy": _word("abstention", it.abstention.policy),
        "abstained": it.abstention.abstained,
        "rewritten": it.rewrite.rewritten if it.HasField("rewrite") else None,
        "left_out": [source.text for source in it.left_out],
        "sentences": [(one.start, one.end, _word("verdict", one.verdict), one.withheld) for one in it.sentences],
        "stages": [(stage.stage, stage.input_size) for stage in it.stages],
        "fallbacks": [(fallback.stage, fallback.instead) for fallback in it.fallbacks],
        "prompt_format": it.prompt_format or None,
    }


def of_json(it: Mapping[str, Any]) -> Found:
    """Of the ``trivium`` of HTTP."""
    abstention, rewrite = it.get("abstention") or {}, it.get("rewrite") or {}
    return {
        "path": it.get("path"),
        "policy": abstention.get("policy"),
        "abstained": abstention.get("abstained", False),
        "rewritten": rewrite.get("rewritten"),
        "left_out": [source["text"] for source in it.get("left_out", ())],
        "sentences": [(one["start"], one["end"], one["verdict"], one["withheld"]) for one in it.get("sentences", ())],
        "stages": [(stage["stage"], stage["input_size"]) for stage in it.get("stages", ())],
        "fallbacks": [(fallback["stage"], fallback["instead"]) for fallback in it["fallbacks"]],
        "prompt_format": it.get("prompt_format"),
    }


def _word(name: str, number: int) -> str | None:
    enum, prefix = _WORDS[name]
    return enum.Name(number).removeprefix(prefix).lower() if number else None
