"""The public keys of an issuer, by key id: fetched when needed, remembered for a while, never trusted beyond it.

Invariants: whatever callers send, an issuer is asked at most once in 30 seconds; a key that the
issuer withdrew counts for ten minutes more at most, for an hour where the issuer cannot be reached,
and then none counts; a key verifies one algorithm.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from services.access.issuers import Issuer, loopback, reachable
from services.chassis.logs import Log

_ATTEMPT_EVERY_SECONDS = 30.0
_FRESH_SECONDS = 600.0
_USABLE_SECONDS = 3600.0
_TIMEOUT_SECONDS = 5.0
_MOST_BYTES = 512 * 1024
_MOST_KEYS = 100
_LEAST_RSA_BITS = 2048
_DISCOVERY = "/.well-known/openid-configuration"

Fetch = Callable[[], Awaitable[object]]


class KeysUnavailable(Exception):
    """The issuer's keys could not be had; the text says why, for the operator."""


@dataclass(frozen=True, slots=True)
class IssuerKey:
    """A key and the one algorithm that it verifies."""

    algorithm: str
    public: Any


class IssuerKeys:
    """The keys of one issuer."""

    def __init__(
        self, issuer: Issuer, log: Log, fetch: Fetch | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._issuer = issuer
        self._log = log
        self._fetch = fetch or fetch_from(issuer)
        self._clock = clock
        self._keys: Mapping[str, IssuerKey] = {}
        self._fetched_at = float("-inf")
        self._attempted_at = float("-inf")
        self._fetching = asyncio.Lock()

    async def find(self, key_id: str) -> IssuerKey | None:
        """The key with this id; None where the issuer has none, or its keys cannot be had."""
        if self._known(key_id) is None or self._age() >= _FRESH_SECONDS:
            async with self._fetching:
                # Whoever waited for the lock finds what the one before it fetched.
                if self._known(key_id) is None or self._age() >= _FRESH_SECONDS:
                    await self._refresh()
        return self._known(key_id)

    def _age(self) -> float:
        return self._clock() - self._fetched_at

    def _known(self, key_id: str) -> IssuerKey | None:
        return self._keys.get(key_id) if self._age() < _USABLE_SECONDS else None

    async def _refresh(self) -> None:
        if self._clock() - self._attempted_at < _ATTEMPT_EVERY_SECONDS:
            return
        self._attempted_at = self._clock()
        try:
            self._keys = keys_in(await self._fetch(), self._issuer)
        except KeysUnavailable as error:
            self._log.warning("issuer_keys_unavailable", issuer=self._issuer.issuer, why=str(error))
            return
        self._fetched_at = self._clock()


def keys_in(answer: object, issuer: Issuer) -> dict[str, IssuerKey]:
    """The usable keys of a JWK set by their ids.  Raises KeysUnavailable where it is none."""
    keys = answer.get("keys") if isinstance(answer, dict) else None
    if not isinstance(keys, list):
        raise KeysUnavailable("what came is no JWK set")
    found = {}
    for item in keys[:_MOST_KEYS]:
        key = _usable(item, issuer)
        if key is not None:
            found[item["kid"]] = key
    return found


def _usable(item: object, issuer: Issuer) -> IssuerKey | None:
    """A key that verifies; None for one without an id, for another use or algorithm, that is weak or broken."""
    if not isinstance(item, dict) or not isinstance(item.get("kid"), str) or item.get("use", "sig") != "sig":
        return None
    if item.get("alg") not in (None, *issuer.algorithms):
        return None
    try:
        key = jwt.PyJWK(item)
    except jwt.PyJWTError:
        return None
    if key.algorithm_name not in issuer.algorithms:
        return None
    if isinstance(key.key, RSAPublicKey) and key.key.key_size < _LEAST_RSA_BITS:
        return None
    # A set that shows private halves is not what a key of an issuer should be in.
    return None if hasattr(key.key, "private_bytes") else IssuerKey(key.algorithm_name, key.key)


def fetch_from(issuer: Issuer) -> Fetch:
    """How the keys of an issuer are had: from its file, or over HTTP as OpenID Connect Discovery 1.0 has it."""
    path = issuer.jwks_file

    async def from_file() -> object:
        assert path is not None
        return await asyncio.to_thread(_read, path)

    async def discovered() -> object:
        # What the environment says of proxies is not for this machine.
        trust_env = not loopback(urlsplit(issuer.issuer).hostname or "")
        async with httpx.AsyncClient(timeout=_TIMEOUT_SECONDS, trust_env=trust_env) as client:
            configuration = await _get(client, issuer.issuer.rstrip("/") + _DISCOVERY)
            return await _get(client, _keys_address(configuration, issuer))

    return discovered if path is None else from_file


def _keys_address(configuration: object, issuer: Issuer) -> str:
    if not isinstance(configuration, dict) or configuration.get("issuer") != issuer.issuer:
        raise KeysUnavailable("its configuration names another issuer")
    address = configuration.get("jwks_uri")
    if not isinstance(address, str) or not reachable(address, tls_only=issuer.issuer.startswith("https:")):
        raise KeysUnavailable("its configuration names no address of keys that may be asked")
    return address


async def _get(client: httpx.AsyncClient, url: str) -> object:
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS), client.stream("GET", url) as answer:
            if answer.status_code != httpx.codes.OK:
                raise KeysUnavailable(f"{url} answered {answer.status_code}")
            body = bytearray()
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > _MOST_BYTES:
                    raise KeysUnavailable(f"{url} answered with more than {_MOST_BYTES} bytes")
        return _parsed(bytes(body))
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
        raise KeysUnavailable(f"{url}: {type(error).__name__}") from error


def _read(path: Path) -> object:
    try:
        return _parsed(path.read_bytes())
    except OSError as error:
        raise KeysUnavailable(f"{path}: {error.strerror}") from error


def _parsed(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise KeysUnavailable("what came is not JSON") from error
