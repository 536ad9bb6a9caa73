"""Signs assertions (JWT, EdDSA over Ed25519) and says which keys verify them.

Invariants: the private keys never leave this folder, whose files are 0600; an
assertion lives at most ten minutes; the key before the current one verifies for as
long as the current one signs, so a rotation invalidates nothing that still lives.
"""

import secrets
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from services.access.secret_files import write_secret
from services.chassis.context import Role, Scope
from services.chassis.credentials import ALGORITHM, ISSUER

# The current key and the one before it.
_KEPT = 2
_SECONDS_A_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Assertion:
    """A signed statement; ``expires_at`` is Unix time in seconds."""

    token: str
    expires_at: int
    principal: str
    tenant: str
    roles: frozenset[Role]


@dataclass(frozen=True, slots=True)
class Limits:
    """What holds a principal's assertion within its credential.  ``ends_at`` is Unix time in seconds."""

    scopes: frozenset[Scope] = frozenset()
    project: str = ""
    ends_at: int | None = None


_UNLIMITED = Limits()


@dataclass(frozen=True, slots=True)
class _SigningKey:
    key_id: str
    created_at: int
    private: Ed25519PrivateKey
    path: Path


class SigningKeys:
    """The signing keys in a folder: ``<created>-<key id>.pem``, newest last."""

    def __init__(self, folder: Path, *, rotate_days: float, now_seconds: Callable[[], float]) -> None:
        self._folder = folder
        self._rotate_seconds = rotate_days * _SECONDS_A_DAY
        self._now = now_seconds
        self._keys: list[_SigningKey] = []

    def refresh(self) -> bool:
        """Read the folder, rotate when the current key is old, drop what is older than the previous.

        Blocks.  True when a key was made.
        """
        keys = sorted((_read(path) for path in self._folder.glob("*.pem")), key=lambda key: key.created_at)
        due = not keys or keys[-1].created_at + self._rotate_seconds <= self._now()
        if due:
            keys.append(self._make())
        for old in keys[:-_KEPT]:
            old.path.unlink(missing_ok=True)
        self._keys = keys[-_KEPT:]
        return due

    def _make(self) -> _SigningKey:
        private = Ed25519PrivateKey.generate()
        created_at, key_id = int(self._now()), secrets.token_hex(8)
        path = self._folder / f"{created_at:012d}-{key_id}.pem"
        write_secret(path, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return _SigningKey(key_id, created_at, private, path)

    @property
    def current(self) -> _SigningKey:
        """The key that signs."""
        return self._keys[-1]

    def public(self) -> dict[str, Ed25519PublicKey]:
        """Verifying keys by key id, the current one first."""
        return {key.key_id: key.private.public_key() for key in reversed(self._keys)}


def _read(path: Path) -> _SigningKey:
    created_at, _, key_id = path.stem.partition("-")
    private = load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(private, Ed25519PrivateKey):
        raise TypeError(f"{path.name} is not an Ed25519 key")
    return _SigningKey(key_id, int(created_at), private, path)


class Assertions:
    """Signs."""

    def __init__(self, keys: SigningKeys, *, lifetime_seconds: int, now_seconds: Callable[[], float]) -> None:
        self._keys = keys
        self._lifetime_seconds = lifetime_seconds
        self._now = now_seconds

    def issue(
        self,
        principal: str,
        tenant: str,
        roles: frozenset[Role],
        *,
        actor: str = "",
        within: Limits = _UNLIMITED,
        weight: int = 1,
    ) -> Assertion:
        """State that ``principal`` has these roles in ``tenant``, whose requests have this ``weight`` beside those of others.

        ``actor`` names the service that acts on the principal's behalf (claim ``act``, RFC 8693).
        """
        issued_at = int(self._now())
        expires_at = min(issued_at + self._lifetime_seconds, within.ends_at or sys.maxsize)
        claims: dict[str, object] = {
            "iss": ISSUER,
            "sub": principal,
            "tid": tenant,
            "roles": sorted(roles),
            "iat": issued_at,
            "exp": expires_at,
        }
        if within.scopes:
            claims["scopes"] = sorted(within.scopes)
        if within.project:
            claims["prj"] = within.project
        if weight > 1:
            claims["weight"] = weight
        if actor:
            claims["act"] = {"sub": actor}
        signing = self._keys.current
        token = jwt.encode(claims, signing.private, algorithm=ALGORITHM, headers={"kid": signing.key_id})
        return Assertion(token, expires_at, principal, tenant, roles)
