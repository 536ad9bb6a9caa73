"""The gateway's server inside the test's process, for tests that replace a part of it."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from gateway.__main__ import build
from gateway.config import GatewaySettings
from services.chassis.credentials import ALGORITHM, ISSUER, AssertionVerifier, Authenticator, CachingAuthenticator
from services.chassis.errors import Failure, Reason
from services.chassis.server import Build, Serving, running
from tests.harness.gateway import NOBODY

_LISTENS = ("listen", "admin_listen", "metrics_listen", "http_listen")
_PEERS = ("access", "registry", "embedder", "retriever", "generator")


@asynccontextmanager
async def serve_gateway(
    folder: Path, build: Build, authenticator: Authenticator, **settings: Any
) -> AsyncIterator[tuple[Serving, str]]:
    """Serve a gateway on ports of the system's choice inside the block; the server, and its HTTP address."""
    chosen = GatewaySettings(**{**dict.fromkeys(_LISTENS, "127.0.0.1:0"), **settings}, data_dir=folder)
    async with running(chosen, name="gateway", build=build, authenticator=authenticator) as server:
        yield server, str(json.loads(chosen.run_file.read_text())["http_listen"])


@asynccontextmanager
async def gateway_alone(
    folder: Path, **settings: Any
) -> AsyncIterator[tuple[Serving, httpx.AsyncClient, Callable[..., str]]]:
    """Serve a gateway without peers, unless the settings name some; the server, a client, and a signer of credentials.

    Credentials are signed with a key made here, since access is among the missing.
    """
    key = Ed25519PrivateKey.generate()

    async def keys() -> Mapping[str, Ed25519PublicKey]:
        return {"k": key.public_key()}

    async def exchange(_: str) -> str:
        raise Failure(Reason.CREDENTIAL_INVALID)

    def sign(*roles: str) -> str:
        now = int(time.time())
        claims = {"iss": ISSUER, "sub": "someone", "tid": "t", "roles": list(roles), "iat": now, "exp": now + 300}
        return jwt.encode(claims, key, algorithm=ALGORITHM, headers={"kid": "k"})

    peers = {f"{peer}_address": NOBODY for peer in _PEERS} | settings
    authenticator = CachingAuthenticator(AssertionVerifier(keys), exchange)
    async with (
        serve_gateway(folder, build, authenticator, **peers) as (server, http),
        httpx.AsyncClient(base_url=f"http://{http}", timeout=60) as client,
    ):
        yield server, client, sign
