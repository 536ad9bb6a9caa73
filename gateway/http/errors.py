"""Failures in OpenAI's shape: ``{"error": {message, type, param, code}}`` with the headers that its clients obey.

``code`` is the catalogue's reason in lower case; ``param`` is the request's field in
OpenAI's own name.  Clients retry on 409, 429 and 5xx by themselves: ``x-should-retry: false``
stops them where the same request would fail the same way.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

from google.rpc import status_pb2

from services.chassis.errors import Code
from services.chassis.status import PeerFailure, read

REQUEST_ID = "x-request-id"
# What a caller names a request by.
OWN_ID = "x-trivium-request-id"

_STATUS = {
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}
# What HTTP has a number of its own for.
_TOO_LARGE = {"BODY_TOO_LARGE", "DATASET_TOO_LARGE", "FILE_TOO_LARGE"}
_OF_REASON = {"BODY_LATE": 408, "REQUEST_STREAM_IDLE": 408, **dict.fromkeys(_TOO_LARGE, 413)}
# Every number that a failure may have, those included that are none of a call's: see ``of_http``.
NUMBERS = tuple(sorted({*_STATUS.values(), *_OF_REASON.values(), 405}))
_TYPE = {
    Code.UNAUTHENTICATED: "authentication_error",
    Code.PERMISSION_DENIED: "permission_error",
    Code.RESOURCE_EXHAUSTED: "rate_limit_error",
}
_RETRYABLE = {Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED}
# Of these only what says when: a full share of files, or an etag of yesterday, is the same a moment later.
_RETRYABLE_WHEN_TOLD = {Code.RESOURCE_EXHAUSTED, Code.ABORTED}
# OpenAI's clients wait no longer for a retry; what comes later than this (a new month) is not worth one.
_LONGEST_PAUSE_SECONDS = 60.0
# What OpenAI's clients and their users look for, where our own name differs.
_CODES = {"CREDENTIAL_INVALID": "invalid_api_key", "CREDENTIAL_MISSING": "invalid_api_key"}
_PARAMS = {
    "sampling.logprobs": "top_logprobs",
    "question": "messages",
    "history": "messages",
    "instructions": "messages",
    "structured_output": "response_format",
    "collections": "trivium.collections",
    "request_id": "trivium.request_id",
    "sticky_key": "safety_identifier",
    "top_k": "trivium.top_k",
    "tool_use": "tools",
    "tool_use.name": "tool_choice",
    "tool_use.single": "parallel_tool_calls",
}


@dataclass(frozen=True, slots=True)
class HttpError:
    """A failure as an HTTP answer."""

    status: int
    body: bytes
    headers: dict[str, str]


def of_status(status: status_pb2.Status, request_id: str, sent: Mapping[str, str] | None = None) -> HttpError:
    """The HTTP answer of a failed call; ``sent`` are the caller's names of our fields for which OpenAI has several."""
    peer = read(status)
    field = _field(peer)
    param = _param(peer, field, {**_PARAMS, **(sent or {})})
    code = _CODES.get(peer.reason, peer.reason.lower()) or peer.code.name.lower()
    headers = {REQUEST_ID: request_id}
    if peer.retry_after_seconds is not None:
        headers["retry-after"] = str(max(1, math.ceil(peer.retry_after_seconds)))
    number = _OF_REASON.get(peer.reason) or _STATUS[peer.code]
    if number == 408:
        # Nobody knows where in what it was sending its client would go on.
        headers["connection"] = "close"
    if number >= 409:
        headers["x-should-retry"] = "true" if _worth_a_retry(peer) else "false"
    if peer.code is Code.UNAUTHENTICATED:
        headers["www-authenticate"] = "Bearer"
    sort = "invalid_request_error" if number < 500 or number == 501 else "server_error"
    kind = sort if number == 413 else _TYPE.get(peer.code, sort)
    return HttpError(number, body_of(_message(peer, field, param), kind, param, code), headers)


def _worth_a_retry(peer: PeerFailure) -> bool:
    told = peer.retry_after_seconds
    return (told or 0.0) <= _LONGEST_PAUSE_SECONDS and (
        peer.code in _RETRYABLE or (peer.code in _RETRYABLE_WHEN_TOLD and told is not None)
    )


def of_http(number: int, message: str, request_id: str) -> HttpError:
    """The answer where no call was made: an unknown path, a wrong method."""
    code = {404: "not_found", 405: "method_not_allowed"}.get(number, "bad_request")
    return HttpError(number, body_of(message, "invalid_request_error", None, code), {REQUEST_ID: request_id})


def body_of(message: str, kind: str, param: str | None, code: str) -> bytes:
    """The error's JSON."""
    error = {"message": message, "type": kind, "param": param, "code": code}
    return json.dumps({"error": error}, ensure_ascii=False).encode()


def _message(peer: PeerFailure, field: str, param: str | None) -> str:
    """The catalogue's sentence; a broken rule is told under the name that the caller used."""
    if peer.reason == "REQUEST_INVALID" and param and peer.violations:
        return f"{param}: {peer.violations[0].description}"
    if peer.reason == "FIELD_INVALID" and param and peer.message.startswith(f"{field}: "):
        return param + peer.message.removeprefix(field)
    return peer.message


def _field(peer: PeerFailure) -> str:
    """The field at fault as our API names it, empty where no single one is."""
    return peer.violations[0].field if peer.violations else peer.variables.get("field", "")


def _param(peer: PeerFailure, field: str, names: Mapping[str, str]) -> str | None:
    """The field at fault as the caller named it, None where no single one is."""
    if not field and peer.reason in ("MODEL_NOT_FOUND", "EMBEDDING_MODEL_NOT_FOUND"):
        return names.get(peer.reason, "model")
    if not field:
        return None
    listed = next((ours for ours in names if ours.endswith("[") and field.startswith(ours)), None)
    if listed is not None:
        return names[listed] + field.removeprefix(listed)
    if field.startswith("tool_use.tools["):
        return field.removeprefix("tool_use.").replace("].", "].function.", 1)
    whole = field.partition("[")[0]
    return names.get(whole) or names.get(whole.partition(".")[0]) or field.removeprefix("sampling.")
