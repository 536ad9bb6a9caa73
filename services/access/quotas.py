"""The limits of tenants: one document a tenant, replaced as a whole by an admin.

Invariant: what is kept can be enforced.  A limit that no part of the deployment keeps is
refused by name, and each key, model and project has at most one.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from enum import IntEnum

from sqlalchemy.orm import Session

from services.access import audit
from services.access.store import QuotaRow, in_turn, require_tenant
from services.chassis.context import RequestContext
from services.chassis.database import Database
from services.chassis.errors import Failure, Reason

# A name of nobody's limit: the tenant's own.
OWN = ""
_OF_MODEL = "model:"
_AUTO = "auto"


class Unit(IntEnum):
    """What a limit counts."""

    REQUESTS = 1
    TOKENS = 2
    PLACES = 3
    MONTH_TOKENS = 4
    MONTH_MICROS = 5


@dataclass(frozen=True, slots=True)
class Limit:
    """Limits of one scope: the tenant itself, or ``key:ID``, ``model:NAME``, ``project:ID``.  None is no limit."""

    scope: str = OWN
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent_requests: int | None = None
    tokens_per_month: int | None = None
    micros_per_month: int | None = None

    def of(self, unit: Unit) -> int | None:
        """The limit in one unit."""
        return {
            Unit.REQUESTS: self.requests_per_minute,
            Unit.TOKENS: self.tokens_per_minute,
            Unit.PLACES: self.concurrent_requests,
            Unit.MONTH_TOKENS: self.tokens_per_month,
            Unit.MONTH_MICROS: self.micros_per_month,
        }[unit]


@dataclass(frozen=True, slots=True)
class Price:
    """Millionths of a unit of money for a million tokens; an empty model prices those without one of their own."""

    model: str
    prompt_micros: int
    completion_micros: int


@dataclass(frozen=True, slots=True)
class Quota:
    """Everything that limits a tenant.  The first limit is the tenant's own."""

    limits: tuple[Limit, ...] = (Limit(),)
    prices: tuple[Price, ...] = ()
    weight: int = 1
    # What was asked for and nothing enforces.
    unenforced: tuple[str, ...] = field(default=(), compare=False)

    def limit(self, scope: str, unit: Unit) -> int | None:
        """One limit."""
        return next((limit.of(unit) for limit in self.limits if limit.scope == scope), None)

    def cost(self, model: str, prompt_tokens: int, completion_tokens: int) -> int:
        """Micros that tokens of a model cost, rounded up."""
        by_model = {price.model: price for price in self.prices}
        price = by_model.get(model) or by_model.get("")
        if price is None:
            return 0
        return -(-(prompt_tokens * price.prompt_micros + completion_tokens * price.completion_micros) // 1_000_000)


def checked(quota: Quota) -> Quota:
    """The quota if it can be kept.  Raises FIELD_INVALID."""
    for name in quota.unenforced:
        problem = "nothing enforces this limit yet; leave it out"
        raise Failure(Reason.FIELD_INVALID, field=f"quota.{name}", problem=problem)
    named = [*(it.scope.removeprefix(_OF_MODEL) for it in quota.limits if it.scope.startswith(_OF_MODEL))]
    for what, names in (("limits", named), ("prices", [price.model for price in quota.prices])):
        wrong = next((name for name in names if name != name.strip() or "@" in name), None)
        if wrong is not None:
            problem = f"{wrong!r} is no model's name alone; leave out spaces, alias and version"
            raise Failure(Reason.FIELD_INVALID, field=f"quota.{what}", problem=problem)
    if any(price.model == _AUTO for price in quota.prices):
        problem = f"{_AUTO} answers nothing itself; price the models that it chooses from"
        raise Failure(Reason.FIELD_INVALID, field="quota.prices", problem=problem)
    for what, names in (
        ("limits", [limit.scope for limit in quota.limits]),
        ("prices", [price.model for price in quota.prices]),
    ):
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            problem = f"{twice or 'every other model'} stands in it twice; name it once"
            raise Failure(Reason.FIELD_INVALID, field=f"quota.{what}", problem=problem)
    return quota


def packed(quota: Quota) -> str:
    """A quota as its row keeps it."""
    values = asdict(quota)
    del values["unenforced"]
    return json.dumps(values)


def unpacked(text: str) -> Quota:
    """A kept quota."""
    values = json.loads(text)
    limits = tuple(Limit(**row) for row in values["limits"])
    return Quota(limits, tuple(Price(**row) for row in values["prices"]), values["weight"])


def quota_of(session: Session, tenant: str) -> Quota:
    """A tenant's quota inside a transaction; nothing is limited where nobody set one."""
    row = session.get(QuotaRow, tenant)
    return Quota() if row is None else unpacked(row.quota)


class Quotas:
    """Reads and replaces quotas."""

    def __init__(self, database: Database, now: Callable[[], int]) -> None:
        self._database = database
        self._now = now

    async def get(self, tenant: str) -> Quota:
        """A tenant's quota.  Raises TENANT_NOT_FOUND."""

        def query(session: Session) -> Quota:
            require_tenant(session, tenant)
            return quota_of(session, tenant)

        return await self._database.read(query)

    async def weight(self, tenant: str) -> int:
        """A tenant's weight beside the others; 1 where nobody set one."""
        return await self._database.read(lambda session: quota_of(session, tenant).weight)

    async def update(self, asking: RequestContext, tenant: str, quota: Quota) -> Quota:
        """Replace a tenant's quota; the same one again changes nothing.  Raises TENANT_NOT_FOUND, FIELD_INVALID."""
        wanted = checked(quota)

        def transaction(session: Session) -> Quota:
            in_turn(session, tenant)
            require_tenant(session, tenant)
            if quota_of(session, tenant) == wanted:
                return wanted
            at = self._now()
            session.merge(QuotaRow(tenant=tenant, quota=packed(wanted), updated_at=at))
            audit.note(
                session,
                tenant=tenant,
                principal=asking.principal_id,
                action="quota.updated",
                resource=f"tenants/{tenant}/quota",
                at=at,
            )
            return wanted

        return await self._database.write(transaction)
