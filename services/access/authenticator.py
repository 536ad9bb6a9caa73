"""How access checks credentials at its own door: with its own keys and its own tables, at once.

Invariant: here a revoked key, a disabled user and their assertions die in the moment of
the revocation, not after a cache has expired.
"""

from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from services.access.assertions import Assertion, Assertions, Limits, SigningKeys
from services.access.keys import Key, Keys
from services.access.quotas import Quotas
from services.access.tenants import Tenants
from services.access.tokens import Tokens
from services.access.users import Users
from services.chassis.context import Identity, RequestContext, Rights, Role
from services.chassis.credentials import USER_PREFIX, AssertionVerifier, Kind, kind_of
from services.chassis.errors import Failure, Reason

# Member stands beside developer for services that were started before there was one.
_OWN_WORK = Rights(frozenset({Role.DEVELOPER, Role.MEMBER}))


class LocalAuthenticator:
    """Verifies assertions and keys without a call to anybody, and tokens by the keys of their issuers."""

    def __init__(self, keys: Keys, users: Users, signing: SigningKeys, exchange: "Exchange") -> None:
        self._keys = keys
        self._users = users
        self._exchange = exchange
        self._signing = signing
        self._verifier = AssertionVerifier(self._public)

    async def _public(self) -> Mapping[str, Ed25519PublicKey]:
        return self._signing.public()

    async def authenticate(self, credential: str) -> Identity:
        """The identity behind a credential of any kind.  Raises CREDENTIAL_INVALID or CREDENTIAL_EXPIRED."""
        kind = kind_of(credential)
        if kind is Kind.KEY:
            return _identity(await self._keys.check(credential))
        if kind is Kind.TOKEN:
            return await self._verifier.verify((await self._exchange.sign_in(credential)).token)
        identity = await self._verifier.verify(credential)
        if not identity.actor and not await self._lives(identity.principal_id):
            raise Failure(Reason.CREDENTIAL_INVALID)
        return identity

    async def _lives(self, principal: str) -> bool:
        return await (self._users if principal.startswith(USER_PREFIX) else self._keys).lives(principal)


def _identity(key: Key) -> Identity:
    return Identity(tenant_id=key.tenant, principal_id=key.key, roles=key.roles, scopes=key.scopes, project=key.project)


class Exchange:
    """Turns keys and tokens into assertions, and lets services act for tenants."""

    def __init__(
        self, keys: Keys, tenants: Tenants, quotas: Quotas, assertions: Assertions, tokens: Tokens, users: Users
    ) -> None:
        self._keys = keys
        self._tenants = tenants
        self._quotas = quotas
        self._assertions = assertions
        self._tokens = tokens
        self._users = users

    async def exchange(self, api_key: str) -> Assertion:
        """The assertion for an API key.  Raises CREDENTIAL_INVALID."""
        key = await self._keys.check(api_key)
        ends_at = None if key.expires_at is None else key.expires_at // 1_000_000
        within = Limits(key.scopes, key.project, ends_at)
        weight = await self._quotas.weight(key.tenant)
        return self._assertions.issue(key.key, key.tenant, key.roles, within=within, weight=weight)

    async def sign_in(self, token: str) -> Assertion:
        """The assertion for an OIDC token; it does not outlive the token.  Raises CREDENTIAL_INVALID."""
        person = await self._tokens.check(token)
        user = await self._users.sign_in(person)
        # Who has been given roles here has these; to others their issuer gives them.
        roles = user.roles or person.roles
        if not roles:
            raise Failure(Reason.CREDENTIAL_INVALID)
        within = Limits(project=next(iter(user.projects), ""), ends_at=person.ends_at)
        weight = await self._quotas.weight(user.tenant)
        return self._assertions.issue(user.user, user.tenant, roles, within=within, weight=weight)

    async def act_for(
        self, asking: RequestContext, tenant: str, on_behalf_of: str, rights: Rights | None = None
    ) -> Assertion:
        """An assertion in a tenant, with no more than ``rights``; without them a developer's.

        Raises TENANT_NOT_FOUND, TENANT_DISABLED.
        """
        found = await self._tenants.get(tenant)
        if found.disabled:
            raise Failure(Reason.TENANT_DISABLED, name=tenant)
        principal = on_behalf_of or asking.principal_id
        # What it does counts for the project of whom it does it for.
        holders = self._users if on_behalf_of.startswith(USER_PREFIX) else self._keys
        project = await holders.project_of(on_behalf_of, tenant) if on_behalf_of else ""
        granted = _OWN_WORK if rights is None else rights.to_act_with()
        within = Limits(scopes=granted.scopes, project=project)
        weight = await self._quotas.weight(tenant)
        return self._assertions.issue(
            principal, tenant, granted.roles, actor=asking.principal_id, within=within, weight=weight
        )
