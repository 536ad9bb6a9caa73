"""Whose OIDC tokens count, as the operator says: nothing that a token states is believed beyond this.

Invariant: keys of an issuer come over TLS, from this machine, or from a file; a claim gives a
role only where the operator mapped its value to one, and never the role of a service.
"""

import ipaddress
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.chassis.context import Role


class Algorithm(StrEnum):
    """Signatures that count: none of them can be made with what an issuer publishes."""

    RS256 = "RS256"
    ES256 = "ES256"
    EDDSA = "EdDSA"


class Issuer(BaseModel):
    """One issuer of tokens, and what its claims mean here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # As the tokens' ``iss`` has it, character for character; its keys are found by discovery below it.
    issuer: str = Field(min_length=1, max_length=500)
    # What the tokens' ``aud`` must name: this deployment, as the issuer knows it.
    audience: str = Field(min_length=1, max_length=500)
    # A JWK set in a file instead of discovery.
    jwks_file: Path | None = None
    algorithms: frozenset[Algorithm] = frozenset(Algorithm)
    # Everybody of this issuer is in one tenant, or a claim names it; of the named, ``tenants`` alone where there are some.
    tenant: str = Field(default="", max_length=63)
    tenant_claim: str = ""
    tenants: frozenset[str] = frozenset()
    # What tells people apart: never given to another person by the issuer.
    user_claim: str = Field(default="sub", min_length=1)
    name_claim: str = "name"
    # Claim with a text or a list of texts, and the roles that its values give; who has no other gets ``default_roles``.
    roles_claim: str = ""
    roles: dict[str, Role] = Field(default_factory=dict)
    default_roles: frozenset[Role] = frozenset()
    # Whether whoever comes with a good token for the first time becomes a user of the tenant.
    create_users: bool = False

    @model_validator(mode="after")
    def _sound(self) -> Self:
        problem = "".join(self._problems())
        if problem:
            raise ValueError(f"the issuer {self.issuer}: {problem}")
        return self

    def _problems(self) -> Iterable[str]:
        if not reachable(self.issuer):
            yield "must be an https URL, or http on this machine. "
        if bool(self.tenant) == bool(self.tenant_claim):
            yield "needs a tenant or a tenant_claim, and not both. "
        if self.tenants and not self.tenant_claim:
            yield "tenants is for issuers with a tenant_claim. "
        if bool(self.roles) != bool(self.roles_claim):
            yield "roles and roles_claim go together. "
        if Role.SERVICE in self.default_roles or Role.SERVICE in self.roles.values():
            yield "nobody is given the role service. "
        if not self.algorithms:
            yield "needs an algorithm. "


def reachable(url: str, *, tls_only: bool = False) -> bool:
    """Whether keys may be fetched from a URL: https, or http on this machine where not ``tls_only``."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    if parts.username or parts.password or parts.fragment or not host:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and not tls_only and loopback(host))


def loopback(host: str) -> bool:
    """Whether a host is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
