"""Between protobuf and the domain of access: the only file that knows both."""

from collections.abc import Iterable, Mapping

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from google.protobuf.timestamp_pb2 import Timestamp
from trivium.access.v1 import access_pb2
from trivium.common.v1 import permission_pb2, receipt_pb2

from services.access.assertions import Assertion
from services.access.keys import Key, NewKey
from services.access.projects import Project
from services.access.tenants import Tenant, tenant_asked_for
from services.access.usage import Usage
from services.chassis.context import RequestContext, Rights, Role, Scope
from services.chassis.credentials import ALGORITHM
from services.chassis.errors import Failure, Reason

_ROLES = {
    Role.VIEWER: access_pb2.ROLE_VIEWER,
    Role.MEMBER: access_pb2.ROLE_MEMBER,
    Role.DEVELOPER: access_pb2.ROLE_DEVELOPER,
    Role.OWNER: access_pb2.ROLE_OWNER,
    Role.ADMIN: access_pb2.ROLE_ADMIN,
    Role.SERVICE: access_pb2.ROLE_SERVICE,
}
# Reader is the former name of viewer.
_ROLES_BACK = {number: role for role, number in _ROLES.items()} | {access_pb2.ROLE_READER: Role.VIEWER}

_SCOPES = {scope: permission_pb2.Scope.Value("SCOPE_" + scope.name) for scope in Scope}
_SCOPES_BACK = {number: scope for scope, number in _SCOPES.items()}
_OVERLAP_SECONDS = 86_400


def time(microseconds: int | None) -> Timestamp | None:
    """A moment on the wire; None stays unset."""
    if microseconds is None:
        return None
    stamp = Timestamp()
    stamp.FromMicroseconds(microseconds)
    return stamp


def roles(values: Iterable[Role]) -> list[access_pb2.Role.ValueType]:
    """Roles in a stable order."""
    return sorted(_ROLES[value] for value in values)


def of_roles(numbers: Iterable["access_pb2.Role.ValueType"]) -> frozenset[Role]:
    """Roles from the wire."""
    return frozenset(_ROLES_BACK[number] for number in numbers)


def scopes(values: Iterable[Scope]) -> list[permission_pb2.Scope.ValueType]:
    """Scopes in a stable order."""
    return sorted(_SCOPES[value] for value in values)


def of_scopes(numbers: Iterable["permission_pb2.Scope.ValueType"]) -> frozenset[Scope]:
    """Scopes from the wire."""
    return frozenset(_SCOPES_BACK[number] for number in numbers)


def rights(request: access_pb2.IssueAssertionRequest) -> Rights | None:
    """What whom an assertion is for might do; None where that is not stated."""
    stated = request.rights
    return Rights(of_roles(stated.roles), of_scopes(stated.scopes)) if request.HasField("rights") else None


def overlap_seconds(request: access_pb2.RotateKeyRequest) -> int:
    """How long the old key works still."""
    return request.overlap_seconds if request.HasField("overlap_seconds") else _OVERLAP_SECONDS


def project(value: Project) -> access_pb2.Project:
    """A project as the API shows it."""
    return access_pb2.Project(
        project=value.project, display_name=value.display_name, create_time=time(value.created_at)
    )


def tenant(value: Tenant) -> access_pb2.Tenant:
    """A tenant as the API shows it."""
    return access_pb2.Tenant(
        tenant=value.tenant,
        display_name=value.display_name,
        create_time=time(value.created_at),
        disabled=value.disabled,
    )


def new_key(asking: RequestContext, request: access_pb2.CreateKeyRequest) -> NewKey:
    """What a request wants of a new key."""
    expires = request.expire_time.ToMicroseconds() if request.HasField("expire_time") else None
    return NewKey(
        tenant=tenant_asked_for(asking, request.tenant),
        display_name=request.display_name,
        roles=of_roles(request.roles),
        expires_at=expires,
        project=request.project,
        scopes=of_scopes(request.scopes),
        user=request.user,
    )


def key(value: Key) -> access_pb2.Key:
    """A key as the API shows it."""
    return access_pb2.Key(
        key=value.key,
        tenant=value.tenant,
        display_name=value.display_name,
        roles=roles(value.roles),
        create_time=time(value.created_at),
        expire_time=time(value.expires_at),
        revoke_time=time(value.revoked_at),
        project=value.project,
        scopes=scopes(value.scopes),
        last_used_time=time(value.used_at),
        replaces=value.replaces,
        user=value.user,
    )


def assertion(value: Assertion) -> access_pb2.Assertion:
    """A signed assertion."""
    return access_pb2.Assertion(
        token=value.token,
        expire_time=time(value.expires_at * 1_000_000),
        principal=value.principal,
        tenant=value.tenant,
        roles=roles(value.roles),
    )


def signing_keys(keys: Mapping[str, Ed25519PublicKey], revoked: Iterable[str]) -> access_pb2.GetSigningKeysResponse:
    """The verifying keys, the current one first, and who must be refused."""
    return access_pb2.GetSigningKeysResponse(
        keys=[
            access_pb2.SigningKey(key_id=key_id, algorithm=ALGORITHM, public_key=public.public_bytes_raw())
            for key_id, public in keys.items()
        ],
        revoked_principals=revoked,
    )


def usage(record: access_pb2.UsageRecord) -> Usage:
    """What a record says; whose it is stands in it, as its service has it from the credential of the request.

    Raises FIELD_INVALID without a tenant, a principal or a request id, and for less than no tokens.
    """
    request_id = record.request_id or record.receipt.request_id
    if not request_id or len(request_id) > 128:
        raise Failure(Reason.FIELD_INVALID, field="record.request_id", problem="must have 1 to 128 characters")
    for field in ("tenant", "principal"):
        if not getattr(record, field):
            raise Failure(Reason.FIELD_INVALID, field=f"record.{field}", problem="must say whose the request was")
    used = record.receipt.usage
    if min(used.prompt_tokens, used.completion_tokens) < 0:
        # They would be given back to the month's budget.
        raise Failure(Reason.FIELD_INVALID, field="record.receipt.usage", problem="must have no fewer than 0 tokens")
    return Usage(
        tenant=record.tenant,
        request_id=request_id,
        principal=record.principal,
        method=record.method[:200],
        receipt=record.receipt.SerializeToString(deterministic=True),
        prompt_tokens=used.prompt_tokens,
        completion_tokens=used.completion_tokens,
        model=_model(record.receipt.resolved_model or record.receipt.requested_model),
        asked=_model(record.receipt.requested_model),
        project=record.project,
        unattended=record.unattended,
    )


def _model(name: str) -> str:
    """A model's name as limits and prices have it: an alias and a version are parts of a name behind an @."""
    return (name.strip().partition("@")[0] or "base")[:256]


def usages(records: Iterable[access_pb2.UsageRecord]) -> list[Usage | Failure]:
    """What each record says, or why it says nothing."""
    return [_usage_or_failure(record) for record in records]


def _usage_or_failure(record: access_pb2.UsageRecord) -> Usage | Failure:
    try:
        return usage(record)
    except Failure as failure:
        return failure


def answer_of(packed: bytes) -> bytes:
    """A receipt without when, where and beside what it was computed, if it says what was asked.

    What else stood in its collections is none of that: its sources say what of them it is from.
    """
    message = receipt(packed)
    if message.prompt_tokens_digest:
        for field in ("complete_time", "engine", "engine_slot", "collections"):
            message.ClearField(field)
        message.usage.ClearField("cached_prompt_tokens")
    return message.SerializeToString(deterministic=True)


def receipt(packed: bytes) -> receipt_pb2.Receipt:
    """A stored receipt."""
    return receipt_pb2.Receipt.FromString(packed)


def usage_record(value: Usage) -> access_pb2.UsageRecord:
    """A usage record as the API shows it."""
    return access_pb2.UsageRecord(
        request_id=value.request_id,
        tenant=value.tenant,
        principal=value.principal,
        method=value.method,
        receipt=receipt(value.receipt),
        create_time=time(value.created_at),
        project=value.project,
    )
