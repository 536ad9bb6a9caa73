"""An issuer of OIDC tokens with keys of its own, on paper or as an HTTP server on the loopback."""

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from tests.harness.http_server import Handler, serve_http

AUDIENCE = "trivium-here"
_MADE = {
    "RS256": (lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048), RSAAlgorithm),
    "ES256": (lambda: ec.generate_private_key(ec.SECP256R1()), ECAlgorithm),
    "EdDSA": (ed25519.Ed25519PrivateKey.generate, OKPAlgorithm),
}


class TokenIssuer:
    """Signs with its newest key; ``keys`` holds private ones by id and what its JWK set says of them."""

    def __init__(self, url: str, algorithm: str = "ES256") -> None:
        self.url = url
        self.algorithms: dict[str, str] = {}
        self.private: dict[str, Any] = {}
        self.published: dict[str, dict[str, Any]] = {}
        self.newest = self.add(algorithm)

    def add(self, algorithm: str = "ES256") -> str:
        """Make a key, publish it and sign with it from now on; its id."""
        make, kind = _MADE[algorithm]
        private = make()
        self.newest = uuid.uuid4().hex[:8]
        self.private[self.newest], self.algorithms[self.newest] = private, algorithm
        told = kind.to_jwk(private.public_key(), as_dict=True)  # type: ignore[attr-defined]  # as each of them has it
        self.published[self.newest] = {**told, "kid": self.newest, "alg": algorithm, "use": "sig"}
        return self.newest

    def withdraw(self, key_id: str) -> None:
        """Publish a key no longer."""
        del self.published[key_id]

    def key_set(self) -> dict[str, Any]:
        """The JWK set."""
        return {"keys": list(self.published.values())}

    def token(self, *, key_id: str = "", without: tuple[str, ...] = (), **claims: Any) -> str:
        """A token for ``sub`` ana of tenant acme for ten minutes, where ``claims`` do not say otherwise."""
        now = int(time.time())
        said = {"iss": self.url, "aud": AUDIENCE, "sub": "ana", "iat": now, "exp": now + 600, "tenant": "acme"}
        payload = {name: value for name, value in (said | claims).items() if name not in without}
        signing = key_id or self.newest
        return jwt.encode(payload, self.private[signing], algorithm=self.algorithms[signing], headers={"kid": signing})

    def settings(self, **fields: Any) -> dict[str, Any]:
        """What access is told of this issuer: the claim ``tenant`` names the tenant, ``groups`` give roles."""
        return {
            "issuer": self.url,
            "audience": AUDIENCE,
            "tenant_claim": "tenant",
            "roles_claim": "groups",
            "roles": {"writers": "developer", "bosses": "owner"},
            "default_roles": ["viewer"],
            "create_users": True,
        } | fields

    def environment(self, **fields: Any) -> dict[str, str]:
        """:meth:`settings` as the environment of access."""
        return {"TRIVIUM_ACCESS_OIDC_ISSUERS": json.dumps([self.settings(**fields)])}


class Served(TokenIssuer):
    """An issuer that is asked over HTTP.  ``asked`` lists the paths; ``answers`` replaces what it answers there."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.asked: list[str] = []
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body for a path."""
        self.asked.append(path)
        if path in self.answers:
            return self.answers[path]
        if path == "/.well-known/openid-configuration":
            return 200, {}, json.dumps({"issuer": self.url, "jwks_uri": f"{self.url}/keys"}).encode()
        return (200, {}, json.dumps(self.key_set()).encode()) if path == "/keys" else (404, {}, b"{}")


@contextmanager
def served() -> Iterator[Served]:
    """An issuer on a free port of the loopback."""

    class Requests(Handler):
        def do_GET(self) -> None:  # the name that http.server calls
            self.answer(*issuer.answer(self.path))

    with serve_http(Requests) as url:
        issuer = Served(url)
        yield issuer
