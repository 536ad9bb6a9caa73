"""Who asks: the credential becomes an identity before a byte of the request is parsed."""

from services.chassis.context import Bearer, Identity, RequestContext, enter
from services.chassis.credentials import Authenticator
from services.chassis.errors import Failure, Reason
from services.chassis.interceptors.call import Call, Proceed

_NOBODY = Identity(tenant_id="", principal_id="", roles=frozenset())


class AuthLayer:
    """Verifies the bearer, checks what the contract asks of it and makes the call the current request."""

    def __init__(self, authenticator: Authenticator) -> None:
        # A service that verifies by its own means (access) puts its own here while it starts.
        self.authenticator = authenticator

    async def __call__(self, proceed: Proceed, call: Call) -> None:
        """Refuse without a valid credential, unless the method is public."""
        permission = call.permission
        public = permission is not None and permission.public
        identity = _NOBODY if public else await self.authenticator.authenticate(bearer_of(call))
        if permission is not None:
            permission.check(identity)
        call.identity = identity
        call.context = RequestContext(
            tenant_id=identity.tenant_id,
            principal_id=identity.principal_id,
            roles=identity.roles,
            bearer=Bearer(identity.assertion),
            correlation_id=call.correlation_id,
            deadline_seconds=call.deadline,
            method=call.method.path,
            traceparent=call.traceparent,
            scopes=identity.scopes,
            project=identity.project,
            actor=identity.actor,
            weight=identity.weight,
        )
        enter(call.context)
        await proceed(call)


def bearer_of(call: Call) -> str:
    """The credential of the call's metadata.  Raises CREDENTIAL_MISSING."""
    value = call.metadata.get("authorization")
    if not isinstance(value, str):
        raise Failure(Reason.CREDENTIAL_MISSING)
    scheme, _, credential = value.partition(" ")
    credential = credential.strip()
    if scheme.lower() != "bearer" or not credential:
        raise Failure(Reason.CREDENTIAL_MISSING)
    return credential
