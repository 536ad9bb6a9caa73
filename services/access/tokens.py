"""OIDC tokens: whether one counts, and whom it names.

Invariant: an unknown issuer, a wrong signature, audience or time, and a claim that is missing give the same
answer, CREDENTIAL_INVALID; nothing of a token is looked at beyond its issuer and key id before its signature is.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

import jwt

from services.access.issuer_keys import IssuerKeys
from services.access.issuers import Issuer
from services.chassis.context import Role
from services.chassis.errors import Failure, Reason
from services.chassis.logs import Log

# How far an issuer's clock may be ahead of ours (nbf, iat).  ``exp`` is taken as it is: what is made from a token
# never outlives it, so there would be nothing to give.
_LEEWAY_SECONDS = 30
_SUBJECT_CHARACTERS = 255
_NAME_CHARACTERS = 200
_REQUIRED = ["aud", "exp", "iat", "iss"]


@dataclass(frozen=True, slots=True)
class Person:
    """Whom a token names, and for how long.  ``ends_at`` is Unix time in seconds."""

    issuer: str
    subject: str
    tenant: str
    roles: frozenset[Role]
    display_name: str
    ends_at: int
    may_be_new: bool = False


class Tokens:
    """Checks tokens of the issuers that the operator named."""

    def __init__(self, issuers: list[Issuer], log: Log, keys: Callable[[Issuer, Log], IssuerKeys] = IssuerKeys) -> None:
        self._issuers = {issuer.issuer: (issuer, keys(issuer, log)) for issuer in issuers}

    async def check(self, token: str) -> Person:
        """Whom a token names.  Raises CREDENTIAL_INVALID, whatever is wrong with it."""
        try:
            named = jwt.decode(token, options={"verify_signature": False}).get("iss")
            key_id = jwt.get_unverified_header(token).get("kid")
        except (jwt.PyJWTError, RecursionError):
            raise Failure(Reason.CREDENTIAL_INVALID) from None
        known = self._issuers.get(named) if isinstance(named, str) else None
        if known is None or not isinstance(key_id, str):
            raise Failure(Reason.CREDENTIAL_INVALID)
        issuer, keys = known
        key = await keys.find(key_id)
        if key is None:
            raise Failure(Reason.CREDENTIAL_INVALID)
        try:
            claims = jwt.decode(
                token,
                key.public,
                algorithms=[key.algorithm],
                audience=issuer.audience,
                issuer=issuer.issuer,
                leeway=_LEEWAY_SECONDS,
                options={"require": _REQUIRED},
            )
        except jwt.PyJWTError:
            raise Failure(Reason.CREDENTIAL_INVALID) from None
        return person_in(claims, issuer)


def person_in(claims: Mapping[str, Any], issuer: Issuer) -> Person:
    """Whom verified claims name.  Raises CREDENTIAL_INVALID where they name nobody, no tenant of the issuer, or are over."""
    subject, tenant = claims.get(issuer.user_claim), issuer.tenant or claims.get(issuer.tenant_claim)
    ends_at = int(claims["exp"])
    if not _text(subject, _SUBJECT_CHARACTERS) or not _text(tenant, 63) or ends_at <= time.time():
        raise Failure(Reason.CREDENTIAL_INVALID)
    if issuer.tenants and tenant not in issuer.tenants:
        raise Failure(Reason.CREDENTIAL_INVALID)
    name = claims.get(issuer.name_claim)
    return Person(
        issuer=issuer.issuer,
        subject=subject,
        tenant=tenant,
        roles=roles_in(claims, issuer),
        display_name=name[:_NAME_CHARACTERS] if isinstance(name, str) else "",
        ends_at=ends_at,
        may_be_new=issuer.create_users,
    )


def roles_in(claims: Mapping[str, Any], issuer: Issuer) -> frozenset[Role]:
    """The roles that the mapped values of the roles' claim give; the issuer's own where there is none of them."""
    values = claims.get(issuer.roles_claim) if issuer.roles_claim else None
    texts = values if isinstance(values, list) else [values]
    mapped = frozenset(issuer.roles[text] for text in texts if isinstance(text, str) and text in issuer.roles)
    return mapped or issuer.default_roles


def _text(value: object, most: int) -> TypeGuard[str]:
    # NUL is nothing that a database keeps everywhere.
    return isinstance(value, str) and 0 < len(value) <= most and "\0" not in value
