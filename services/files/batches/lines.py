"""The lines of a batch's input: each one request, checked before any is asked.

Invariant: a line is known by its number (``chassis.batch_lines``): what was answered before a kill is found again by it.
"""

import hashlib
import json
from collections.abc import AsyncIterable, AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from services.chassis.batch_lines import MOST_LINE_BYTES, lines
from services.files.batches.batch import Endpoint, Problem

MOST_LINES = 50_000
MOST_PROBLEMS = 50
_CUSTOM_ID_CHARACTERS = 512
_MODEL_CHARACTERS = 256
_FIELDS = ("custom_id", "method", "url", "body")


@dataclass(frozen=True, slots=True)
class Request:
    """One line: its number from 1, its caller's name of it, the model that it names, and what is asked, as JSON."""

    line: int
    custom_id: str
    model: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Checked:
    """What a whole input is; with ``problems`` none of it is asked."""

    total: int
    model: str
    problems: tuple[Problem, ...]


async def requests(
    content: AsyncIterable[bytes], endpoint: Endpoint, besides: Collection[int] = ()
) -> AsyncIterator[Request | Problem]:
    """Every line as the request that it is, or what is wrong with it; those with the numbers ``besides`` are passed over."""
    async for number, text in lines(content):
        if number not in besides:
            yield parsed(number, text, endpoint)


async def checked(content: AsyncIterable[bytes], endpoint: Endpoint, *, most_lines: int = MOST_LINES) -> Checked:
    """Check a whole input."""
    problems: list[Problem] = []
    seen: set[bytes] = set()
    total, bad, model = 0, 0, ""
    async for read in requests(content, endpoint):
        total += 1
        if total > most_lines:
            # Of a file of tiny lines the ids alone would fill the memory.
            break
        found = (_twice(read, seen) or read) if isinstance(read, Request) else read
        if isinstance(found, Problem):
            bad += 1
            if len(problems) < MOST_PROBLEMS:
                problems.append(found)
            continue
        model = model or found.model
    if bad > len(problems):
        problems.append(Problem("more_problems", f"{bad - len(problems)} more lines are wrong"))
    if not total:
        problems.append(Problem("empty_file", "The file has no requests."))
    if total > most_lines:
        problems.append(Problem("too_many_requests", f"The file has more than {most_lines} requests. Split it."))
    return Checked(total, model, tuple(problems))


def _twice(request: Request, seen: set[bytes]) -> Problem | None:
    # 16 bytes an id: the ids themselves could be 25 MB.
    digest = hashlib.sha256(request.custom_id.encode()).digest()[:16]
    if digest in seen:
        return Problem(
            "duplicate_custom_id", f"custom_id {request.custom_id} stands on a line before.", request.line, "custom_id"
        )
    seen.add(digest)
    return None


def parsed(number: int, text: bytes, endpoint: Endpoint) -> Request | Problem:
    """One line as the request that it is, or what is wrong with it."""
    if len(text) > MOST_LINE_BYTES:
        return Problem("line_too_long", f"The line has more than {MOST_LINE_BYTES} bytes.", number)
    try:
        value = json.loads(text)
        # What Python reads and JSON has no word for (NaN, half of a surrogate pair) can neither be asked nor told.
        _encoded(value)
    except (ValueError, RecursionError):
        return Problem("invalid_json_line", "The line is no JSON object.", number)
    if not isinstance(value, dict):
        return Problem("invalid_json_line", "The line is no JSON object.", number)
    return _wrong_line(number, value, endpoint) or _request(number, value)


def _request(number: int, value: Mapping[str, Any]) -> Request:
    body = value["body"]
    model = body.get("model")
    # A database may keep no NUL.
    named = model.replace("\0", "")[:_MODEL_CHARACTERS] if isinstance(model, str) else ""
    return Request(number, value["custom_id"], named, _encoded(body))


def _encoded(value: object) -> bytes:
    """JSON.  Raises ValueError for what it has no word for, RecursionError."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _wrong_line(number: int, value: Mapping[str, Any], endpoint: Endpoint) -> Problem | None:
    for name in value:
        if name not in _FIELDS:
            return Problem("unknown_parameter", f"{name[:64]} is none of {', '.join(_FIELDS)}.", number, name[:64])
    custom_id = value.get("custom_id")
    if not isinstance(custom_id, str) or not 1 <= len(custom_id) <= _CUSTOM_ID_CHARACTERS:
        message = f"custom_id must be a text of 1 to {_CUSTOM_ID_CHARACTERS} characters."
        return Problem("invalid_custom_id", message, number, "custom_id")
    if value.get("method") != "POST":
        return Problem("invalid_method", "method must be POST.", number, "method")
    if value.get("url") != endpoint:
        return Problem("invalid_url", f"url must be the batch's endpoint, {endpoint}.", number, "url")
    body = value.get("body")
    if not isinstance(body, dict):
        return Problem("invalid_body", "body must be an object.", number, "body")
    return _wrong_body(number, body)


def _wrong_body(number: int, body: Mapping[str, Any]) -> Problem | None:
    if body.get("stream"):
        return Problem("invalid_request", "An answer in a file cannot be streamed.", number, "body.stream")
    ours = body.get("trivium")
    if isinstance(ours, dict) and "request_id" in ours:
        message = "A batch gives each line a request id of its own."
        return Problem("invalid_request", message, number, "body.trivium.request_id")
    return None
