"""An HTTP exchange of one request and one JSON document, said in three parts: how it is read, what is called, how it is told."""

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from gateway.http.transport import Asked
from gateway.servicers import Servicers
from services.chassis.interceptors.call import ServicerContext

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)


@dataclass(frozen=True, slots=True)
class Unary(Generic[Request, Response]):
    """What a route does: calls the servicer's method with what ``read`` makes of the request, and tells what it answers.

    ``sent`` are the caller's names of fields that our API calls otherwise.
    """

    read: Callable[[Asked], Request]
    call: Callable[[Servicers, Request, ServicerContext], Awaitable[Response]]
    tell: Callable[[Request, Response], dict[str, Any]]
    sent: tuple[tuple[str, str], ...] = ()

    def __call__(self, servicers: Servicers, request_id: str) -> "UnaryExchange[Request, Response]":
        """The exchange of one request."""
        return UnaryExchange(self, servicers, request_id)


class UnaryExchange(Generic[Request, Response]):
    """One request on its way through."""

    stream = False

    def __init__(self, route: Unary[Request, Response], servicers: Servicers, request_id: str) -> None:
        self.request_id = request_id
        self.sent = dict(route.sent)
        self._route = route
        self._servicers = servicers

    def parse(self, asked: Asked) -> Request:
        """As Exchange."""
        return self._route.read(asked)

    async def answer(self, message: Request, context: ServicerContext) -> AsyncGenerator[bytes]:
        """As Exchange."""
        answer = await self._route.call(self._servicers, message, context)
        yield json.dumps(self._route.tell(message, answer), ensure_ascii=False).encode()
