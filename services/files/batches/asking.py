"""How one request of a batch is asked: again and again while the gateway says later, under one id, and then once answered.

Invariant: every attempt at a line carries the same request id, which the batch and the line determine: the gateway
draws the same random numbers and an answer is recorded once, however often a kill makes us ask.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from services.chassis import batch_lines
from services.files.batches.batch import Batch, Endpoint, Tokens
from services.files.batches.lines import Request
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

    ``own`` says that only this tenant is put off, by a limit of its own; ``late`` is what the gateway said where it had
    begun and its time was over, which another attempt may end in too: then nobody else is put off.
    """

    seconds: float | None = None
    own: bool = False
    late: Answer | None = None


class Unauthorized(Exception):
    """The gateway no longer takes the assertion that we act by."""


class Door(Protocol):
    """The gateway's HTTP door."""

    async def ask(self, endpoint: Endpoint, body: bytes, request_id: str, assertion: str) -> Answer | Later:
        """Ask once, at low priority; ``body`` is JSON.  Raises Unauthorized."""


class Pace:
    """How much of the gateway batches take: so many requests at once, and none while it asked for a pause.

    Of all batches of a replica together: what one hears of overload all of them heed.  A limit of one tenant's own holds
    up nobody else: its requests wait without a place.
    """

    def __init__(self, at_once: int, monotonic: Callable[[], float]) -> None:
        self._places = asyncio.Semaphore(at_once)
        self._monotonic = monotonic
        self._open_at = 0.0
        self._own_at: dict[str, float] = {}

    @asynccontextmanager
    async def place(self, tenant: str) -> AsyncIterator[None]:
        """A place for one request, once nobody wants a pause.

        Another pause may be asked for meanwhile: whoever is told so asks once more, and is told again.
        """
        await asyncio.sleep(max(0.0, self._own_at.get(tenant, 0.0) - self._monotonic()))
        async with self._places:
            await asyncio.sleep(max(0.0, self._open_at - self._monotonic()))
            yield

    def pause(self, seconds: float, tenant: str = "") -> None:
        """Ask nothing for so long; of one tenant nothing, where one is named."""
        now = self._monotonic()
        if not tenant:
            self._open_at = max(self._open_at, now + seconds)
            return
        self._own_at = {name: at for name, at in self._own_at.items() if at > now}
        self._own_at[tenant] = max(self._own_at.get(tenant, 0.0), now + seconds)


def request_id(batch: Batch, line: int) -> str:
    """The id under which a line is asked, however often."""
    return batch_lines.request_id(batch.tenant, batch.batch, line)


async def ask(door: Door, pace: Pace, batch: Batch, request: Request, assertion: Callable[[], str]) -> Result:
    """Ask one request until it is answered; the result as a line of its file.  Raises Unauthorized."""
    name = request_id(batch, request.line)
    backoff, late = _FIRST_PAUSE_SECONDS, 0
    while True:
        async with pace.place(batch.tenant):
            said = await door.ask(batch.order.endpoint, request.body, name, assertion())
            if isinstance(said, Later) and said.late is None:
                pace.pause(said.seconds or backoff, batch.tenant if said.own else "")
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
