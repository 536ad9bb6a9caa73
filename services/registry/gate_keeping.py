"""Gates as rows: kept, listed, deleted, and asked in the transaction that moves an alias.

Invariant: a version that an alias begins to serve has passed, in that very transaction, every
gate that guards the alias; a rollback, which leads to what served just before, those that check rollbacks.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.chassis.errors import Failure, Reason
from services.registry.callers import Caller
from services.registry.gates import Contest, Measured, Policy, shortfall
from services.registry.measurements import evaluations
from services.registry.models import require_model
from services.registry.moves import Spot
from services.registry.replay import Replay
from services.registry.store_aliases import AliasRow, GateRow

MOST_GATES = 64
_NAME = re.compile(r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$")


@dataclass(frozen=True, slots=True)
class Gate:
    """A gate as it is shown."""

    gate: str
    policy: Policy
    principal: str
    created_at: float


class Gates:
    """The verbs on gates.  Each is one transaction, committed before it returns."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        self._database = database
        self._now = now

    async def create(self, caller: Caller, model: str, gate: str, policy: Policy, replay: Replay) -> Gate:
        """Keep a gate.  Raises FIELD_INVALID, GATE_EXISTS, LIMIT_REACHED, MODEL_NOT_FOUND."""
        if not _NAME.match(gate):
            problem = "must be 1 to 63 lower-case letters, digits, dots, hyphens and underscores"
            raise Failure(Reason.FIELD_INVALID, field="gate.gate", problem=problem)
        if not policy.metric:
            raise Failure(Reason.FIELD_INVALID, field="gate.metric", problem="names no metric")

        def transaction(session: Session) -> Gate:
            first = replay.json(session, lambda: self._create(session, caller, model, gate, policy))
            return Gate(gate, policy, str(first["principal"]), float(first["created_at"]))

        return await self._database.write(transaction)

    def _create(self, session: Session, caller: Caller, model: str, gate: str, policy: Policy) -> dict[str, object]:
        require_model(session, caller.tenant, model)
        if session.get(GateRow, (caller.tenant, model, gate)) is not None:
            raise Failure(Reason.GATE_EXISTS, name=f"{model}/{gate}")
        of_model = select(func.count()).where(GateRow.tenant == caller.tenant, GateRow.model == model)
        if session.scalar(of_model) == MOST_GATES:
            raise Failure(Reason.LIMIT_REACHED, name=model, what="gates", limit=MOST_GATES)
        row = GateRow(
            tenant=caller.tenant,
            model=model,
            gate=gate,
            policy=json.dumps(policy.snapshot(), sort_keys=True),
            principal=caller.principal,
            created_at=self._now(),
        )
        session.add(row)
        return {"principal": row.principal, "created_at": row.created_at}

    async def page(self, caller: Caller, model: str, after: str, limit: int) -> list[Gate]:
        """A model's gates by id, after one.  Raises MODEL_NOT_FOUND."""

        def transaction(session: Session) -> list[Gate]:
            require_model(session, caller.tenant, model)
            query = select(GateRow).where(GateRow.tenant == caller.tenant, GateRow.model == model, GateRow.gate > after)
            return [_shown(row) for row in session.scalars(query.order_by(GateRow.gate).limit(limit))]

        return await self._database.read(transaction)

    async def delete(self, caller: Caller, model: str, gate: str) -> None:
        """Delete a gate.  Raises GATE_NOT_FOUND."""

        def transaction(session: Session) -> None:
            row = session.get(GateRow, (caller.tenant, model, gate))
            if row is None:
                raise Failure(Reason.GATE_NOT_FOUND, name=f"{model}/{gate}")
            session.delete(row)

        await self._database.write(transaction)


def refusal(session: Session, spot: Spot, target: str, serving: str, *, rollback: bool) -> str:
    """What the gates of an alias find wrong with a target beside what serves, each by name; empty when it passes."""
    guarding = list(_guarding(session, spot))
    if not guarding:
        return ""
    contest = Contest(
        candidate=_measured(session, spot.tenant, target),
        holder=_measured(session, spot.tenant, serving) if serving else None,
        rollback=rollback,
    )
    found = ((gate, shortfall(policy, contest)) for gate, policy in guarding)
    return "; ".join(f"gate {gate}: {lacking}" for gate, lacking in found if lacking)


def require_passed(session: Session, spot: Spot, target: str, row: AliasRow | None, *, rollback: bool) -> None:
    """Raise GATE_NOT_PASSED unless a target passes.  What serves already has nothing to pass."""
    serving = "" if row is None else row.serving
    lacking = "" if target == serving else refusal(session, spot, target, serving, rollback=rollback)
    if lacking:
        raise Failure(Reason.GATE_NOT_PASSED, name=spot.name, version=target, found=lacking)


def _guarding(session: Session, spot: Spot) -> Iterator[tuple[str, Policy]]:
    query = select(GateRow).where(GateRow.tenant == spot.tenant, GateRow.model == spot.model).order_by(GateRow.gate)
    for row in session.scalars(query):
        policy = Policy.restore(json.loads(row.policy))
        if policy.alias in ("", spot.alias):
            yield row.gate, policy


def _measured(session: Session, tenant: str, version: str) -> list[Measured]:
    kept = (recorded.evaluation for recorded in evaluations(session, tenant, version))
    return [Measured(item.metric, item.value, item.dataset_digest) for item in kept]


def _shown(row: GateRow) -> Gate:
    return Gate(row.gate, Policy.restore(json.loads(row.policy)), row.principal, row.created_at)
