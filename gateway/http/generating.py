"""What the exchanges that generate share: whom they ask, what the request chose, and the frame of an event."""

import json
import time
from collections.abc import Callable
from typing import Any

from gateway.http.requests import is_uuid
from gateway.http.schemas import Generation
from gateway.servicers import Servicers

# The data of what ends a stream.
LAST = "[DONE]"
DONE = f"data: {LAST}\n\n".encode()
# Made once: ``json.dumps`` would make another one for each event, for two fifths of its time.
encoded = json.JSONEncoder(ensure_ascii=False).encode


def event(payload: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + encoded(payload).encode() + b"\n\n"


class GeneratingExchange:
    """One request: its own id, its model as it was named, and what it wants told."""

    def __init__(self, servicers: Servicers, request_id: str, clock: Callable[[], float] = time.time) -> None:
        self.request_id = request_id
        self.stream = False
        self.sent: dict[str, str] = {}
        self._servicer = servicers.gateway
        self._created = int(clock())
        self._model = ""
        self._usage_wanted = False
        self._logprobs_wanted = False
        self._answers = 1

    def _begin(self, body: Generation, request_id: str, *, logprobs: bool) -> None:
        """Keep what the answer is encoded by, and the caller's own request id where it gave one."""
        if is_uuid(request_id):  # what is none is refused by validation, under an id that a header can carry
            self.request_id = request_id
        self.stream = body.stream
        self.sent = body.sent
        self._model = body.model
        self._usage_wanted = body.stream_options.include_usage
        self._logprobs_wanted = logprobs
        self._answers = body.n or 1
