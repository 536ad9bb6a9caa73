"""What skins have in common that are asked by verbs with their fields: each verb is a method of the skin."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc
import httpx

from services.chassis.status import from_rpc_error
from tests.conformance.gateway_skins import TIMEOUT_SECONDS, Refused

# What came back, in neither skin's words.
Told = Any


class Skin(Protocol):
    """One door."""

    def ask(self, verb: str, fields: Mapping[str, Any]) -> Told | Refused:
        """Send it."""


@dataclass(frozen=True, slots=True)
class Case:
    """A request by a name that reads, and a check of the answer that either skin gave."""

    says: str
    verb: str
    holds: Callable[[Told | Refused], bool]
    fields: Mapping[str, Any] = field(default_factory=dict)


def refuses(reason: str) -> Callable[[Told | Refused], bool]:
    """Whether it was refused for this reason."""
    return lambda outcome: outcome == Refused(reason)


def is_told(told: Told) -> Callable[[Told | Refused], bool]:
    """Whether just this was answered."""
    return lambda outcome: outcome == told


def answers(check: Callable[[Told], bool]) -> Callable[[Told | Refused], bool]:
    """Whether it was answered, and the answer is as the check wants it."""
    return lambda outcome: not isinstance(outcome, Refused) and check(outcome)


class GrpcVerbs:
    """Of a skin over ``trivium.gateway.v1``."""

    def ask(self, verb: str, fields: Mapping[str, Any]) -> Told | Refused:
        """As Skin."""
        call: Callable[..., Told] = getattr(self, verb)
        try:
            return call(**fields)
        except grpc.RpcError as error:
            return Refused(from_rpc_error(error).reason.lower())


class HttpVerbs:
    """Of a skin over OpenAI's shapes."""

    def __init__(self, client: httpx.Client, key: str) -> None:
        self._client = client
        self._headers = {"authorization": f"Bearer {key}"}

    def ask(self, verb: str, fields: Mapping[str, Any]) -> Told | Refused:
        """As Skin."""
        call: Callable[..., Told] = getattr(self, verb)
        try:
            return call(**fields)
        except httpx.HTTPStatusError as error:
            return Refused(error.response.json()["error"]["code"])

    def sent(self, verb: str, path: str, **more: Any) -> httpx.Response:
        """One request, answered.  Raises HTTPStatusError."""
        answer = self._client.request(verb, path, headers=self._headers, timeout=TIMEOUT_SECONDS, **more)
        answer.raise_for_status()
        return answer
