"""From credential to identity: assertions are checked here, API keys and OIDC tokens are exchanged at access.

Invariants: an assertion counts only with a valid signature, issuer and expiry; a
revoked key, and a token whose user is disabled, is accepted for at most
``key_cache_seconds`` (60 s) more, and no token beyond its own end; credentials are
remembered by digest alone.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Protocol

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from services.chassis.context import Identity, Role, Scope
from services.chassis.errors import Code, Failure, Reason
from services.chassis.revocations import Revocations

ISSUER = "trivium-access"
ALGORITHM = "EdDSA"
KEY_PREFIX = "tv_"
# Begins the principal of a user; what else is a principal begins otherwise.
USER_PREFIX = "user_"
MAX_LIFETIME_SECONDS = 600
_CACHE_ENTRIES = 4096
# Not before this long after the last fetch are keys fetched again for an unknown key id.
_KEY_REFRESH_SECONDS = 5.0
# An attempt to learn anew what is still known is made no sooner after another.
_RENEWAL_PAUSE_SECONDS = 5.0

KeySource = Callable[[], Awaitable[Mapping[str, Ed25519PublicKey]]]
Exchange = Callable[[str], Awaitable[str]]


class Kind(Enum):
    """What a credential claims to be."""

    KEY = auto()
    ASSERTION = auto()
    TOKEN = auto()


def kind_of(credential: str) -> Kind:
    """What a credential claims to be, by its looks: nothing of it is verified yet.

    Raises CREDENTIAL_INVALID for what looks like none.
    """
    if credential.startswith(KEY_PREFIX):
        return Kind.KEY
    try:
        issuer = jwt.decode(credential, options={"verify_signature": False}).get("iss")
    except (jwt.InvalidTokenError, RecursionError):
        raise Failure(Reason.CREDENTIAL_INVALID) from None
    return Kind.ASSERTION if issuer == ISSUER else Kind.TOKEN


class Authenticator(Protocol):
    """Turns a credential into an identity.  Access brings its own, all others ask access."""

    async def authenticate(self, credential: str) -> Identity:
        """The identity behind the credential.  Raises CREDENTIAL_INVALID or CREDENTIAL_EXPIRED."""


class AssertionVerifier:
    """Checks assertions against access's public keys, fetched when first needed and on an unknown key id."""

    def __init__(self, keys: KeySource, clock: Callable[[], float] = time.time) -> None:
        self._source = keys
        self._clock = clock
        self._keys: Mapping[str, Ed25519PublicKey] = {}
        self._fetched_at = float("-inf")
        self._fetching = asyncio.Lock()

    async def verify(self, token: str) -> Identity:
        """The identity that a signed assertion states.  Raises CREDENTIAL_INVALID or CREDENTIAL_EXPIRED."""
        try:
            key_id = str(jwt.get_unverified_header(token).get("kid", ""))
        except jwt.InvalidTokenError:
            raise Failure(Reason.CREDENTIAL_INVALID) from None
        key = self._keys.get(key_id) or await self._fetch(key_id)
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                issuer=ISSUER,
                options={"require": ["exp", "iat", "sub", "iss"], "verify_aud": False},
            )
        except jwt.ExpiredSignatureError:
            raise Failure(Reason.CREDENTIAL_EXPIRED) from None
        except jwt.InvalidTokenError:
            raise Failure(Reason.CREDENTIAL_INVALID) from None
        return identity_of(claims, token)

    async def _fetch(self, key_id: str) -> Ed25519PublicKey:
        async with self._fetching:
            if key_id not in self._keys and self._clock() - self._fetched_at >= _KEY_REFRESH_SECONDS:
                self._keys = await self._source()
                self._fetched_at = self._clock()
        key = self._keys.get(key_id)
        if key is None:
            raise Failure(Reason.CREDENTIAL_INVALID)
        return key


def identity_of(claims: Mapping[str, Any], token: str) -> Identity:
    """The identity in verified claims.  Raises CREDENTIAL_INVALID if they are not as access issues them."""
    lifetime = float(claims["exp"]) - float(claims["iat"])
    names, scopes = claims.get("roles", []), claims.get("scopes", [])
    if lifetime > MAX_LIFETIME_SECONDS or not isinstance(names, list) or not isinstance(scopes, list):
        raise Failure(Reason.CREDENTIAL_INVALID)
    known, narrow = {role.value for role in Role}, {scope.value for scope in Scope}
    if scopes and narrow.isdisjoint(scopes):
        # None that this build knows: to drop them would widen what was narrowed.
        raise Failure(Reason.CREDENTIAL_INVALID)
    return Identity(
        tenant_id=str(claims.get("tid", "")),
        principal_id=str(claims["sub"]),
        # A role that this build does not know grants nothing here.
        roles=frozenset(Role(name) for name in names if name in known),
        assertion=token,
        expires_at=float(claims["exp"]),
        actor=_actor(claims.get("act")),
        scopes=frozenset(Scope(name) for name in scopes if name in narrow),
        project=str(claims.get("prj", "")),
        weight=_weight(claims.get("weight", 1)),
    )


def _weight(claim: object) -> int:
    # An access from before there was one signs none.
    if not isinstance(claim, int) or claim < 1:
        raise Failure(Reason.CREDENTIAL_INVALID)
    return claim


def _actor(claim: object) -> str:
    # RFC 8693 nests the actor's own claims; any form of the claim says that somebody acts.
    if isinstance(claim, Mapping):
        return str(claim.get("sub", "unnamed"))
    return str(claim) if claim else ""


@dataclass(slots=True)
class _Known:
    """An identity that counts ``until`` a time, and from another on is asked about again while it does."""

    identity: Identity
    until: float
    renewed_from: float


class CachingAuthenticator:
    """Verifies assertions and exchanges what else comes, each once: what was verified is remembered until it expires.

    In the second half of that time it is asked about again while it still counts, so that no call waits for access, and
    none fails where it cannot answer for a moment.
    """

    def __init__(
        self,
        verifier: AssertionVerifier,
        exchange: Exchange,
        *,
        key_cache_seconds: float = 60.0,
        revocations: Revocations | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._verifier = verifier
        self._exchange = exchange
        self._revocations = revocations
        self._key_cache_seconds = key_cache_seconds
        self._clock = clock
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._asking: dict[bytes, asyncio.Future[Identity]] = {}

    async def authenticate(self, credential: str) -> Identity:
        """The identity behind a credential of any kind.  Raises CREDENTIAL_INVALID or CREDENTIAL_EXPIRED."""
        name = hashlib.sha256(credential.encode()).digest()
        known, now = self._known.get(name), self._clock()
        if known is not None and known.until > now:
            identity = known.identity
            if known.renewed_from <= now:
                known.renewed_from = now + _RENEWAL_PAUSE_SECONDS
                self._begun(name, credential)
        else:
            identity = await self._ask(name, credential)
        if self._revocations is not None and not self._revocations.cleared(identity):
            await self._revocations.check(identity)
        return identity

    async def _ask(self, name: bytes, credential: str) -> Identity:
        """Learn the identity once, however many callers wait for it."""
        # Shielded: one caller's cancellation must not fail the others who wait for the same answer.
        return await asyncio.shield(self._begun(name, credential))

    def _begun(self, name: bytes, credential: str) -> "asyncio.Future[Identity]":
        """The question about a credential, in progress."""
        asking = self._asking.get(name)
        if asking is None:
            asking = asyncio.ensure_future(self._learn(name, credential))
            self._asking[name] = asking
            asking.add_done_callback(lambda done: self._ended(name, done))
        return asking

    def _ended(self, name: bytes, asked: "asyncio.Future[Identity]") -> None:
        self._asking.pop(name, None)
        error = None if asked.cancelled() else asked.exception()
        # What is refused now counts no longer, whoever asked.
        if isinstance(error, Failure) and error.code is Code.UNAUTHENTICATED:
            self._known.pop(name, None)

    async def _learn(self, name: bytes, credential: str) -> Identity:
        now = self._clock()
        if kind_of(credential) is Kind.ASSERTION:
            identity = await self._verifier.verify(credential)
            until = renewed_from = identity.expires_at
        else:
            identity = await self._verifier.verify(await self._exchange(credential))
            # It is asked about again before its assertion ends, so the assertion we forward still has life.
            until = min(now + self._key_cache_seconds, identity.expires_at - 30)
            renewed_from = (now + until) / 2
        self._known[name] = _Known(identity, until, renewed_from)
        while len(self._known) > _CACHE_ENTRIES:
            self._known.popitem(last=False)
        return identity
