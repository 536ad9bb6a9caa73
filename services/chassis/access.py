"""What the chassis asks of the access service: keys, exchanges, assertions to act with.

Invariant: calls made here carry exactly the credential named here, never that of
the request in which they happen.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from trivium.access.v1 import access_pb2, access_pb2_grpc
from trivium.common.v1 import permission_pb2

from services.chassis import tasks
from services.chassis.context import Bearer, Rights
from services.chassis.credentials import KEY_PREFIX
from services.chassis.errors import Code, Failure, Reason
from services.chassis.logs import Log
from services.chassis.status import PeerFailure, from_rpc_error

_TIMEOUT_SECONDS = 10.0
Obtain = Callable[[], Awaitable[tuple[str, float]]]
ObtainToken = Callable[[], Awaitable[str]]
_REFUSED = {Code.UNAUTHENTICATED, Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.PERMISSION_DENIED}
# What access says of the tenant, or of what this service may do: it will say so again.
_FINAL = {Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.PERMISSION_DENIED, Code.FAILED_PRECONDITION}
# Attributes of a failure that travel beside its variables.
_NOT_VARIABLES = {"correlation_id", "field", "reason", "retry_after_seconds", "violations"}


class AccessClient:
    """The access service over a channel that adds nothing of its own."""

    def __init__(self, channel: grpc.aio.Channel, key_file: Path | None, log: Log) -> None:
        self._stub = access_pb2_grpc.AccessServiceStub(channel)
        self._key_file = key_file
        self._log = log
        self._issued: dict[Hashable, tuple[str, float]] = {}

    async def revoked_principals(self) -> frozenset[str]:
        """Principals whose assertions count no longer.  Raises PEER_UNAVAILABLE."""
        return frozenset((await self._published()).revoked_principals)

    async def signing_keys(self) -> Mapping[str, Ed25519PublicKey]:
        """Access's public keys by key id.  Raises PEER_UNAVAILABLE."""
        answer = await self._published()
        return {key.key_id: Ed25519PublicKey.from_public_bytes(key.public_key) for key in answer.keys}

    async def _published(self) -> access_pb2.GetSigningKeysResponse:
        try:
            return await self._stub.GetSigningKeys(access_pb2.GetSigningKeysRequest(), timeout=_TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            raise _unavailable() from error

    async def exchange(self, credential: str) -> str:
        """The assertion for an API key or an OIDC token.  Raises CREDENTIAL_INVALID or PEER_UNAVAILABLE."""
        return (await self._exchange(credential))[0]

    async def _exchange(self, credential: str) -> tuple[str, float]:
        answer: access_pb2.ExchangeKeyResponse | access_pb2.ExchangeTokenResponse
        try:
            if credential.startswith(KEY_PREFIX):
                key = access_pb2.ExchangeKeyRequest(api_key=credential)
                answer = await self._stub.ExchangeKey(key, timeout=_TIMEOUT_SECONDS)
            else:
                token = access_pb2.ExchangeTokenRequest(token=credential)
                answer = await self._stub.ExchangeToken(token, timeout=_TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            if from_rpc_error(error).code in _REFUSED:
                raise Failure(Reason.CREDENTIAL_INVALID) from None
            raise _unavailable() from error
        return answer.assertion.token, answer.assertion.expire_time.ToNanoseconds() / 1e9

    async def own_assertion(self) -> str:
        """An assertion of this service itself, from its service key.  Raises NOT_READY without a key."""
        return await self._cached("", self._exchange_own)

    async def assertion_for(self, tenant: str, on_behalf_of: str = "", rights: Rights | None = None) -> str:
        """An assertion to act for ``tenant``, with no more than ``rights``; without them, as a service's own work is done.

        Raises NOT_READY and CREDENTIAL_INVALID, of our own key; access's refusal (TENANT_DISABLED, TENANT_NOT_FOUND,
        ROLE_MISSING); and PEER_UNAVAILABLE for whatever else went wrong: it says nothing about the tenant.
        """

        async def issue() -> tuple[str, float]:
            own = await self.own_assertion()
            request = access_pb2.IssueAssertionRequest(tenant=tenant, on_behalf_of=on_behalf_of, rights=_stated(rights))
            try:
                answer = await self._stub.IssueAssertion(
                    request, timeout=_TIMEOUT_SECONDS, metadata=(("authorization", f"Bearer {own}"),)
                )
            except grpc.RpcError as error:
                raise _refusal(from_rpc_error(error)) from error
            return answer.assertion.token, answer.assertion.expire_time.ToNanoseconds() / 1e9

        return await self._cached((tenant, on_behalf_of, rights), issue)

    async def _exchange_own(self) -> tuple[str, float]:
        try:
            key = self._key_file.read_text().strip() if self._key_file else ""
        except OSError:
            key = ""
        if not key:
            raise Failure(
                Reason.NOT_READY, retry_after_seconds=1.0, service="access", why="no service key was issued yet"
            )
        return await self._exchange(key)

    async def _cached(self, name: Hashable, obtain: Obtain) -> str:
        token, expires_at = self._issued.get(name, ("", 0.0))
        # Renewed with two minutes left: the work that begins with it should not outlive it.
        if expires_at - time.time() < 120:
            token, expires_at = await obtain()
            self._issued[name] = (token, expires_at)
            for stale in [item for item, (_, until) in self._issued.items() if until < time.time()]:
                del self._issued[stale]
        return token

    @asynccontextmanager
    async def renewed(self, obtain: ObtainToken) -> AsyncIterator[Bearer]:
        """A bearer that stays valid for as long as the block lasts."""
        bearer = Bearer(await obtain())
        keeper = asyncio.create_task(self._renew(bearer, obtain), name="renew-assertion")
        try:
            yield bearer
        finally:
            await tasks.end(keeper)

    async def _renew(self, bearer: Bearer, obtain: ObtainToken) -> None:
        while True:
            await asyncio.sleep(60)
            try:
                bearer.token = await obtain()
            except Failure as error:
                # The present one is still good for a minute or more; the next round tries again.
                self._log.warning("assertion_not_renewed", exc_info=error)


def _stated(rights: Rights | None) -> access_pb2.Rights | None:
    if rights is None:
        return None
    return access_pb2.Rights(
        roles=sorted(access_pb2.Role.Value(f"ROLE_{role.name}") for role in rights.roles),
        scopes=sorted(permission_pb2.Scope.Value(f"SCOPE_{scope.name}") for scope in rights.scopes),
    )


def _refusal(peer: PeerFailure) -> Failure:
    reason = Reason.__members__.get(peer.reason)
    if reason is None or reason.value.code not in _FINAL:
        return _unavailable()
    variables: dict[str, Any] = {name: value for name, value in peer.variables.items() if name not in _NOT_VARIABLES}
    return Failure(reason, field=peer.variables.get("field"), **variables)


def _unavailable() -> Failure:
    return Failure(Reason.PEER_UNAVAILABLE, retry_after_seconds=1.0, service="access")
