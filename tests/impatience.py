"""OpenAI's client with a patience that ends by what has happened: a time would end it too early on a busy machine."""

from collections.abc import Callable
from typing import Any

import httpx2

_READS = "http11.receive_response_headers.started"
_AT_ONCE_SECONDS = 0.001


class Impatient:
    """Has its client wait for its first answer until ``enough`` has returned, and for later ones as long as they take.

    The client's own time to read ends there, so what it does then is its own.
    """

    def __init__(self, enough: Callable[[], object]) -> None:
        self.asked = 0
        self._enough = enough

    def client(self) -> httpx2.Client:
        """What ``openai.OpenAI`` takes as its ``http_client``, which closes it."""
        return httpx2.Client(event_hooks={"request": [self._asks]})

    def _asks(self, request: httpx2.Request) -> None:
        self.asked += 1
        if self.asked > 1:
            return
        patience = dict(request.extensions["timeout"])

        def goes_on(step: str, _: dict[str, Any]) -> None:
            if step == _READS:
                self._enough()
                patience["read"] = _AT_ONCE_SECONDS

        request.extensions |= {"timeout": patience, "trace": goes_on}
