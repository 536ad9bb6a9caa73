"""Answers with sources over HTTP: the fields of ``trivium`` that ask for them, and what they tell of themselves."""

from typing import Any

from google.protobuf import json_format
from trivium.gateway.v1 import gateway_pb2, responses_pb2
from trivium.retriever.v1 import retriever_pb2

from gateway.http.schemas import Extension, Manner
from gateway.http.spans import span
from services.chassis.errors import Failure, Reason

_POLICIES = {
    "strict": retriever_pb2.ABSTENTION_POLICY_STRICT,
    "hedge": retriever_pb2.ABSTENTION_POLICY_HEDGE,
    "off": retriever_pb2.ABSTENTION_POLICY_OFF,
}
_PATHS = {
    "passages": gateway_pb2.ANSWER_PATH_PASSAGES,
    "summary": gateway_pb2.ANSWER_PATH_SUMMARY,
    "index": gateway_pb2.ANSWER_PATH_INDEX,
}
_RELEASES = {"token": gateway_pb2.RELEASE_MODE_TOKEN, "sentence": gateway_pb2.RELEASE_MODE_SENTENCE}
_UNSUPPORTED = {"mark": gateway_pb2.UNSUPPORTED_POLICY_MARK, "withhold": gateway_pb2.UNSUPPORTED_POLICY_WITHHOLD}


def fields(wanted: Manner) -> dict[str, Any]:
    """The fields of AskRequest, and of ResponseSettings, that the extension fills."""
    given = {
        "abstention": _POLICIES.get(wanted.abstention or ""),
        "path": _PATHS.get(wanted.path or ""),
        "rewrite": wanted.rewrite,
        "release": _RELEASES.get(wanted.release or ""),
        "unsupported": _UNSUPPORTED.get(wanted.unsupported or ""),
    }
    return {
        **{name: value for name, value in given.items() if value is not None},
        "check_support": wanted.check_support,
        "explain": wanted.explain,
        "no_fallbacks": not wanted.fallbacks,
        "as_readers": wanted.as_readers,
        "fallback": wanted.fallback,
    }


def refuse(wanted: Extension) -> None:
    """Refuse, without a collection, what says something of sources alone.  Raises PARAMETER_UNSUPPORTED by name."""
    for name in wanted.asking:
        raise Failure(Reason.PARAMETER_UNSUPPORTED, field=f"trivium.{name}", why=" without a collection")


def filter_of(given: dict[str, Any] | None) -> retriever_pb2.Filter | None:
    """The retriever's filter as it was said in JSON.  Raises FIELD_INVALID."""
    if given is None:
        return None
    try:
        return json_format.ParseDict(given, retriever_pb2.Filter())
    except json_format.ParseError as error:
        raise Failure(Reason.FIELD_INVALID, field="trivium.filter", problem=str(error)) from None


def decided(message: gateway_pb2.Sources | gateway_pb2.AskFinal | responses_pb2.Response) -> dict[str, Any]:
    """Where the answer comes from, and what was decided before it."""
    about: dict[str, Any] = {}
    if message.path:
        about["path"] = _word(message, "path")
    if message.HasField("abstention"):
        told = message.abstention
        about["abstention"] = {
            "policy": _word(told, "policy"),
            "score": told.score,
            "threshold": told.threshold,
            "answerable": told.answerable,
            "abstained": told.abstained,
            "hedged": told.hedged,
            "says": told.says,
        }
    if message.HasField("rewrite"):
        rewrite = message.rewrite
        about["rewrite"] = {
            "question": rewrite.question,
            "rewritten": rewrite.rewritten,
            "reason": rewrite.reason,
        }
    return about


def ended(final: gateway_pb2.AskFinal | responses_pb2.Response) -> dict[str, Any]:
    """What the end of an answer with sources tells beside its citations."""
    about = decided(final)
    if final.path:
        about["sentences"] = [_sentence(item) for item in final.sentences]
        about["quotes"] = [_quote(item) for item in final.quotes]
        about["prompt_format"] = final.prompt_format or None
    if final.stages:
        about["stages"] = [_stage(item) for item in final.stages]
    return about


def refused(text: str, final: gateway_pb2.AskFinal | gateway_pb2.GenerationFinal) -> dict[str, Any]:
    """The parts of a message whose answer was to have a shape and was not given.

    What is said in its place stands where OpenAI's clients look for a refusal.
    """
    if text or isinstance(final, gateway_pb2.GenerationFinal) or not final.abstention.abstained:
        return {}
    return {"content": None, "refusal": final.abstention.says}


def _sentence(item: gateway_pb2.Sentence) -> dict[str, Any]:
    about: dict[str, Any] = {
        "start": item.start,
        "end": item.end,
        "verdict": _word(item, "verdict"),
        "judge": _word(item, "judge"),
        "words": item.words,
        "similarity": item.similarity if item.HasField("similarity") else None,
        "marker": item.marker or None,
        "withheld": item.withheld,
    }
    return about | ({"text": item.text} if item.withheld else {})


def _quote(item: gateway_pb2.Quote) -> dict[str, Any]:
    where = span(item.span) if item.HasField("span") else None
    return {"answer_start": item.start, "answer_end": item.end, "found": item.found, "span": where}


def _stage(item: gateway_pb2.Stage) -> dict[str, Any]:
    return {
        "stage": item.stage,
        "seconds": item.seconds,
        "input_size": item.input_size,
        "budget_seconds": item.budget_seconds if item.HasField("budget_seconds") else None,
        "decision": item.decision,
    }


def _word(message: Any, name: str) -> str | None:
    """An enum's value as people write it; None where it is not stated."""
    field = message.DESCRIPTOR.fields_by_name[name]
    values = field.enum_type.values_by_number
    prefix = values[0].name.removesuffix("UNSPECIFIED")
    number = getattr(message, name)
    return values[number].name.removeprefix(prefix).lower() if number else None
