"""What people and evaluators say of a version afterwards: tags and measurements.

Invariant: nothing here touches the manifest, so the version's digest never changes.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.chassis.errors import Failure, Reason
from services.registry.callers import Caller
from services.registry.manifests import Evaluation
from services.registry.measurements import Recorded, Source, append
from services.registry.replay import Replay
from services.registry.store import MeasurementRow, TagRow
from services.registry.version_view import Version, find_version, shown

MOST_TAGS = 64
MOST_EVALUATIONS = 1000


class Annotations:
    """The verbs on tags and measurements.  Each is one transaction, committed before it returns."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        self._database = database
        self._now = now

    async def tag(
        self, caller: Caller, model: str, reference: str, add: Iterable[str], remove: Iterable[str]
    ) -> Version:
        """Add tags, then remove tags.  Raises LIMIT_REACHED, and as ``find_version`` does."""

        def transaction(session: Session) -> Version:
            row = find_version(session, _own(caller), model, reference)
            for tag in add:
                session.merge(TagRow(tenant=row.tenant, version=row.version, tag=tag))
            session.flush()
            of_version = (TagRow.tenant == row.tenant, TagRow.version == row.version)
            session.execute(delete(TagRow).where(*of_version, TagRow.tag.in_(list(remove))))
            if (session.scalar(select(func.count()).where(*of_version)) or 0) > MOST_TAGS:
                raise Failure(Reason.LIMIT_REACHED, name=f"{row.model}@{row.number}", what="tags", limit=MOST_TAGS)
            return shown(session, row)

        return await self._database.write(transaction)

    async def record(
        self, caller: Caller, model: str, reference: str, evaluation: Evaluation, replay: Replay
    ) -> Recorded:
        """Append a measurement.  Raises FIELD_INVALID, LIMIT_REACHED, and as ``find_version`` does."""
        if not math.isfinite(evaluation.value):
            raise Failure(Reason.FIELD_INVALID, field="evaluation.value", problem="must be a finite number")

        def effect(session: Session) -> dict[str, object]:
            row = find_version(session, _own(caller), model, reference)
            of_version = (MeasurementRow.tenant == row.tenant, MeasurementRow.version == row.version)
            if (session.scalar(select(func.count()).where(*of_version)) or 0) >= MOST_EVALUATIONS:
                name = f"{row.model}@{row.number}"
                raise Failure(Reason.LIMIT_REACHED, name=name, what="evaluations", limit=MOST_EVALUATIONS)
            recorded = Recorded(evaluation, caller.principal, self._now())
            append(session, row.tenant, row.version, recorded, Source.EVALUATION)
            return asdict(recorded)

        def transaction(session: Session) -> Recorded:
            kept = replay.json(session, lambda: effect(session))
            return Recorded(**{**kept, "evaluation": Evaluation(**kept["evaluation"])})

        return await self._database.write(transaction)


def _own(caller: Caller) -> Caller:
    """The caller in its own tenant alone: a service reads everywhere, but writes nowhere else."""
    return Caller(caller.tenant, caller.principal)
