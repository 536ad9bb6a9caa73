"""Admission of HTTP requests before their bodies are read.

The layers count calls, and a call begins when its body is whole: until then a request
holds a connection and memory that nobody counts.  Invariant: no more than ``limit``
requests are open at once, and one too many is refused in OpenAI's shape at once.
"""

from collections.abc import Callable

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.http import errors
from services.chassis.errors import Failure, Reason
from services.chassis.status import to_status

_RETRY_SECONDS = 1.0
# Whoever supervises asks for it most when the server is full; it costs nothing.
HEALTH = "/healthz"


class Admission:
    """ASGI middleware that counts requests from their headers to the end of their answers."""

    def __init__(self, app: ASGIApp, limit: int, new_id: Callable[[], str]) -> None:
        self._app = app
        self._limit = limit
        self._new_id = new_id
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on or refuse it unread."""
        if scope["type"] != "http" or scope["path"] == HEALTH:
            await self._app(scope, receive, send)
            return
        if self._open >= self._limit:
            await self._refusal()(scope, receive, send)
            return
        self._open += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._open -= 1

    def _refusal(self) -> Response:
        failure = Failure(Reason.OVERLOADED, retry_after_seconds=_RETRY_SECONDS, limit=self._limit)
        request_id = self._new_id()
        answer = errors.of_status(to_status(failure, correlation_id=request_id), request_id)
        # What is left of the body is not worth reading.
        headers = {**answer.headers, "connection": "close"}
        return Response(answer.body, answer.status, headers, media_type="application/json")
