"""How one request of a batch is asked: again and again while the gateway says later, under one id, and then once answered.

Invariant: every attempt at a line carries the same request id, which the batch and the line determine: the gateway
draws the same random numbers and an answer is recorded once, however often a kill makes us ask.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from services.chassis import batch_lines
from services.files.batches.batch import Batch, Endpoint, Tokens
from services.files.batches.lines import Request
from services.files.batches.pace import Activity, Pace, Whom
from services.files.batches.runs import Result

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
# A request that needs more than the gateway's time would else be asked until its batch's window ends.
_MOST_LATE = 3


@dataclass(frozen=True, slots=True)
class Answer:
    """What the gateway answered, once and for all: a status and JSON."""

    status: int
    body: Any


@dataclass(frozen=True, slots=True)
class Later:
    """The gateway cannot say now; ``seconds`` is its hint, None where it gave none.

    ``whom`` says who is put off; ``late`` is what the gateway said where it had begun and its time was over, which another
    attempt may end in too: then nobody else is put off.
    """

    seconds: float | None = None
    whom: Whom = Whom.EVERYBODY
    late: Answer | None = None


class Unauthorized(Exception):
    """The gateway no longer takes the assertion that we act by."""


class Door(Protocol):
    """The gateway's HTTP door."""

    async def ask(self, endpoint: Endpoint, body: bytes, request_id: str, assertion: str) -> Answer | Later:
        """Ask once, at low priority; ``body`` is JSON.  Raises Unauthorized."""


@dataclass(frozen=True, slots=True)
class Asking:
    """By what a run asks: the door and the pace of all, its own activity, and its creator's assertion as it is now."""

    door: Door
    pace: Pace
    activity: Activity
    assertion: Callable[[], str]


def request_id(batch: Batch, line: int) -> str:
    """The id under which a line is asked, however often."""
    return batch_lines.request_id(batch.tenant, batch.batch, line)


async def ask(means: Asking, batch: Batch, request: Request) -> Result:
    """Ask one request until it is answered; the result as a line of its file.  Raises Unauthorized."""
    name, of = request_id(batch, request.line), (batch.tenant, request.model)
    backoff, late = _FIRST_PAUSE_SECONDS, 0
    while True:
        async with means.pace.place(*of, means.activity):
            said = await means.door.ask(batch.order.endpoint, request.body, name, means.assertion())
            if isinstance(said, Answer):
                means.pace.answered(*of)
            elif said.late is None:
                means.pace.later(said.whom, said.seconds or backoff, *of)
        if isinstance(said, Later) and said.late is not None:
            late += 1
            if late < _MOST_LATE:
                # What was late was this request: no other waits for it.
                await asyncio.sleep(said.seconds or backoff)
            else:
                said = said.late
        if isinstance(said, Later):
            backoff = min(backoff * 2, _LONGEST_PAUSE_SECONDS)
            continue
        response = {"status_code": said.status, "request_id": name, "body": said.body}
        answered = said.status == 200
        return Result(
            request.line, answered, line_of(request, name, response, None), _tokens(said.body) if answered else Tokens()
        )


def unanswered(batch: Batch, request: Request, code: str, message: str) -> Result:
    """The line of a request that was not asked."""
    error = {"code": code, "message": message}
    return Result(request.line, False, line_of(request, request_id(batch, request.line), None, error))


def line_of(request: Request, name: str, response: dict[str, Any] | None, error: dict[str, str] | None) -> bytes:
    """A line of an output or error file, as OpenAI writes one."""
    whole = {
        "id": f"batch_req_{name.replace('-', '')}",
        "custom_id": request.custom_id,
        "response": response,
        "error": error,
    }
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _tokens(body: Any) -> Tokens:
    """What an answer says that it used; chat and completions have other words for it than responses."""
    usage = body.get("usage") if isinstance(body, dict) else None
    if not isinstance(usage, dict):
        return Tokens()
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    cached = details.get("cached_tokens", 0) if isinstance(details, dict) else 0
    return Tokens(
        prompt=_count(usage.get("prompt_tokens", usage.get("input_tokens"))),
        cached=_count(cached),
        completion=_count(usage.get("completion_tokens", usage.get("output_tokens"))),
    )


def _count(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value < 1 << 40 else 0
