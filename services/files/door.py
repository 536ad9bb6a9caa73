"""The gateway's HTTP door, as batches ask it: a line's body is a body of its HTTP requests.

Invariant: an assertion leaves this machine only under TLS.
"""

import json
import ssl
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from services.chassis.errors import Unstartable
from services.chassis.logs import Log
from services.files.batches.asking import Answer, Later, Unauthorized
from services.files.batches.batch import Endpoint
from services.files.batches.pace import Whom

_LOCAL = {"127.0.0.1", "localhost", "::1"}
# The gateway has its own, shorter ones; this only frees what a lost machine holds.
_TIMEOUT = httpx.Timeout(3600.0, connect=5.0)
_MOST_PAUSE_SECONDS = 300.0
# Whom a "later" concerns by its reason: the gateway's and the generator's load all, a tenant's own limits and the server of
# its own content policy that tenant.  Whatever else is away or not ready may be what this model, or this line, needs alone.
_WHOM = {
    **dict.fromkeys(("", "draining", "overloaded", "too_busy_for_deadline"), Whom.EVERYBODY),
    **dict.fromkeys(
        (
            "insufficient_quota",
            "policy_unavailable",
            "rate_limit_exceeded",
            "tenant_calls_exhausted",
            "tenant_streams_exhausted",
        ),
        Whom.TENANT,
    ),
}


class GatewayDoor:
    """Implements :class:`services.files.batches.asking.Door` with httpx.

    ``ca_file`` holds the authorities whose word on the gateway's certificate is taken, in PEM; None: the public ones.
    """

    def __init__(self, url: str, log: Log, ca_file: Path | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" and parts.hostname not in _LOCAL:
            raise Unstartable(f"{url} is not on this machine: set TRIVIUM_FILES_GATEWAY_URL to an https:// address")
        trusted = True if ca_file is None else _trusted(ca_file)
        self._client = httpx.AsyncClient(base_url=url, timeout=_TIMEOUT, trust_env=False, verify=trusted)
        self._log = log
        self._away = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def ask(self, endpoint: Endpoint, body: bytes, request_id: str, assertion: str) -> Answer | Later:
        """As the Protocol says."""
        headers = {
            "authorization": f"Bearer {assertion}",
            "content-type": "application/json",
            "x-trivium-request-id": request_id,
        }
        try:
            answer = await self._client.post(str(endpoint), content=body, headers=headers)
            said = json.loads(answer.content)
        except (httpx.TransportError, ValueError) as error:
            # It is away, or what stands before it speaks for it.
            self._is_away(error)
            return Later()
        self._is_there()
        if answer.status_code == 401:
            raise Unauthorized
        if _retryable(answer):
            late = Answer(answer.status_code, said) if answer.status_code == httpx.codes.GATEWAY_TIMEOUT else None
            return Later(_hint(answer), _WHOM.get(_code(said), Whom.MODEL), late)
        return Answer(answer.status_code, said)

    def _is_away(self, error: Exception) -> None:
        """Tell it once: a wrong address or certificate would else be a batch that waits and nobody knows for what."""
        if not self._away:
            self._log.warning("gateway_away", url=str(self._client.base_url), why=str(error) or type(error).__name__)
        self._away = True

    def _is_there(self) -> None:
        if self._away:
            self._log.info("gateway_back", url=str(self._client.base_url))
        self._away = False


def _trusted(ca_file: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise Unstartable(
            f"TRIVIUM_FILES_GATEWAY_CA_FILE: no certificate in PEM is read from {ca_file}: {error}"
        ) from error


def _retryable(answer: httpx.Response) -> bool:
    told = answer.headers.get("x-should-retry")
    if told is not None:
        return bool(told == "true")
    return answer.status_code in (408, 409, 429) or answer.status_code >= 500


def _code(said: Any) -> str:
    """The reason in an error of the gateway's; empty where it is none."""
    error = said.get("error") if isinstance(said, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, str) else ""


def _hint(answer: httpx.Response) -> float | None:
    text = answer.headers.get("retry-after", "")
    return min(float(text), _MOST_PAUSE_SECONDS) if text.isascii() and text.isdigit() else None
