"""Content policies of tenants: who judges what they ask and are answered, one document a tenant, set by an admin.

Invariant: an address is set by an admin alone, since gateways call it; what is kept judges something.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import Enum

from sqlalchemy.orm import Session

from services.access import audit
from services.access.store import PolicyRow, in_turn, require_tenant
from services.chassis.context import RequestContext
from services.chassis.database import Database
from services.chassis.errors import Failure, Reason

DEFAULT_TIMEOUT_MS = 2000
_LAST_PORT = 65_535


class AnswerCheck(Enum):
    """How much of an answer is judged at a time."""

    PIECES = "pieces"
    WHOLE = "whole"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class ContentPolicy:
    """Who judges, at ``endpoint`` (host:port), and how; ``fail_open`` lets pass what nobody judged."""

    endpoint: str
    timeout_ms: int = DEFAULT_TIMEOUT_MS
    fail_open: bool = False
    prompts: bool = True
    answers: AnswerCheck = AnswerCheck.PIECES


def checked(policy: ContentPolicy | None) -> ContentPolicy | None:
    """The policy if it can be kept.  Raises FIELD_INVALID."""
    if policy is None:
        return None
    host, _, port = policy.endpoint.rpartition(":")
    if not 0 < int(port) <= _LAST_PORT:
        problem = f"{port} is no port; give host:port"
        raise Failure(Reason.FIELD_INVALID, field="policy.endpoint", problem=problem)
    if host == "unix":
        problem = "a path is reachable on one machine alone; give host:port"
        raise Failure(Reason.FIELD_INVALID, field="policy.endpoint", problem=problem)
    if not policy.prompts and policy.answers is AnswerCheck.NONE:
        problem = (
            "with neither prompts nor answers there is nothing to judge; to end the policy, leave the endpoint empty"
        )
        raise Failure(Reason.FIELD_INVALID, field="policy.answers", problem=problem)
    return policy


def packed(policy: ContentPolicy) -> str:
    """A policy as its row keeps it."""
    return json.dumps({**asdict(policy), "answers": policy.answers.value})


def unpacked(text: str) -> ContentPolicy:
    """A kept policy."""
    values = json.loads(text)
    return ContentPolicy(**{**values, "answers": AnswerCheck(values["answers"])})


def policy_of(session: Session, tenant: str) -> ContentPolicy | None:
    """A tenant's policy inside a transaction; None where nobody set one."""
    row = session.get(PolicyRow, tenant)
    return None if row is None else unpacked(row.policy)


class Policies:
    """Reads and replaces content policies."""

    def __init__(self, database: Database, now: Callable[[], int]) -> None:
        self._database = database
        self._now = now

    async def get(self, tenant: str) -> ContentPolicy | None:
        """A tenant's policy.  Raises TENANT_NOT_FOUND."""

        def query(session: Session) -> ContentPolicy | None:
            require_tenant(session, tenant)
            return policy_of(session, tenant)

        return await self._database.read(query)

    async def update(self, asking: RequestContext, tenant: str, policy: ContentPolicy | None) -> ContentPolicy | None:
        """Replace a tenant's policy, None ends it; the same again changes nothing.

        Raises TENANT_NOT_FOUND, FIELD_INVALID.
        """
        wanted = checked(policy)

        def transaction(session: Session) -> ContentPolicy | None:
            in_turn(session, tenant)
            require_tenant(session, tenant)
            if policy_of(session, tenant) == wanted:
                return wanted
            at = self._now()
            if wanted is None:
                session.delete(session.get_one(PolicyRow, tenant))
            else:
                session.merge(PolicyRow(tenant=tenant, policy=packed(wanted), updated_at=at))
            audit.note(
                session,
                tenant=tenant,
                principal=asking.principal_id,
                action="policy.updated",
                resource=f"tenants/{tenant}/policy",
                at=at,
            )
            return wanted

        return await self._database.write(transaction)
