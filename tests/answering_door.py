"""A stand-in for the gateway's HTTP door: answers what batches ask without an engine, and remembers who asked what."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jwt

from tests.harness.http_server import Handler, serve_http


class AnsweringDoor:
    """What was asked, and as whom (``claims``), by the ``n`` of the body; lines whose ``n`` is in ``held`` wait.

    Once each, those in ``overloaded`` are told that the gateway is full, those in ``limited`` that their tenant is,
    those in ``late`` that their time is over, those in ``unready`` that their model is not ready.
    """

    def __init__(self) -> None:
        self.asked: Counter[int] = Counter()
        self.ids: dict[int, set[str]] = {}
        self.claims: dict[int, dict[str, Any]] = {}
        self.held: set[int] = set()
        self.overloaded: set[int] = set()
        self.limited: set[int] = set()
        self.late: set[int] = set()
        self.unready: set[int] = set()
        self.address = ""
        self._changed = threading.Condition()

    def let_go(self) -> None:
        """Answer everything."""
        with self._changed:
            self.held = set()
            self._changed.notify_all()

    def answer(self, path: str, body: dict[str, Any], request_id: str) -> tuple[int, dict[str, str], dict[str, Any]]:
        """Status, headers and JSON of an answer."""
        number = body["n"]
        with self._changed:
            self.asked[number] += 1
            self.ids.setdefault(number, set()).add(request_id)
            self._changed.wait_for(lambda: number not in self.held, 60)
            first = number in self.overloaded
            limited = number in self.limited
            late = number in self.late
            unready = number in self.unready
            self.overloaded.discard(number)
            self.limited.discard(number)
            self.late.discard(number)
            self.unready.discard(number)
        if first:
            return 503, {"retry-after": "1", "x-should-retry": "true"}, {"error": {"code": "overloaded"}}
        if limited:
            return 429, {"retry-after": "7", "x-should-retry": "true"}, {"error": {"code": "rate_limit_exceeded"}}
        if late:
            return 504, {"x-should-retry": "true"}, {"error": {"code": "deadline_exceeded"}}
        if unready:
            return 503, {"retry-after": "15", "x-should-retry": "true"}, {"error": {"code": "not_ready"}}
        if number < 0:
            return 400, {"x-should-retry": "false"}, {"error": {"code": "field_invalid", "param": "n"}}
        usage = {"prompt_tokens": 3, "completion_tokens": 2}
        return 200, {}, {"path": path, "n": number, "usage": usage}


@contextmanager
def answering_door() -> Iterator[AnsweringDoor]:
    """The door, served inside the block."""
    door = AnsweringDoor()

    class Requests(Handler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            assert self.headers["authorization"].startswith("Bearer ey")
            door.claims[body["n"]] = claims_of(self.headers["authorization"].removeprefix("Bearer "))
            status, headers, said = door.answer(self.path, body, self.headers["x-trivium-request-id"])
            self.answer(status, headers, json.dumps(said).encode())

    with serve_http(Requests) as door.address:
        try:
            yield door
        finally:
            door.let_go()


def claims_of(token: str) -> dict[str, Any]:
    """What an assertion claims; nothing of what is none."""
    try:
        return dict(jwt.decode(token, options={"verify_signature": False}))
    except jwt.InvalidTokenError:
        return {}


def requests(*numbers: int) -> bytes:
    """A batch's input that asks for these numbers."""
    lines = [
        {"custom_id": f"c{n}", "method": "POST", "url": "/v1/completions", "body": {"model": "base", "n": n}}
        for n in numbers
    ]
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)
