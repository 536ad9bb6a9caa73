"""What was measured of versions, as rows: appended, never changed.

Invariant: of several values of one metric on one dataset the newest counts, everywhere: in
gates, in searches and in what is shown first.
"""

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from services.registry.manifests import Evaluation, Manifest
from services.registry.store import MeasurementRow


class Source(StrEnum):
    """Where a value comes from: the training run itself, or an evaluation of its result."""

    TRAINING = "training"
    EVALUATION = "evaluation"


@dataclass(frozen=True, slots=True)
class Recorded:
    """An evaluation as it is kept: who recorded it, when (Unix seconds)."""

    evaluation: Evaluation
    principal: str
    created_at: float


def append(session: Session, tenant: str, version: str, recorded: Recorded, source: Source) -> int:
    """Add a measurement to the open transaction; returns how many the version has now."""
    of_version = (MeasurementRow.tenant == tenant, MeasurementRow.version == version)
    number = (session.scalar(select(func.max(MeasurementRow.number)).where(*of_version)) or 0) + 1
    measured = recorded.evaluation
    session.add(
        MeasurementRow(
            tenant=tenant,
            version=version,
            number=number,
            source=source.value,
            metric=measured.metric,
            value=measured.value,
            dataset_digest=measured.dataset_digest,
            dataset_rows=measured.dataset_rows,
            note=measured.note,
            principal=recorded.principal,
            created_at=recorded.created_at,
        )
    )
    session.flush()
    return number


def append_known(session: Session, version: str, manifest: Manifest, principal: str, created_at: float) -> None:
    """Add what a manifest says was measured: in training, and in evaluations known when it was made."""
    lineage = manifest.lineage
    for metric, value in sorted(lineage.metrics.items()):
        # A key of the user's own may be longer than a column.
        measured = Evaluation(metric[:128], value, lineage.dataset_digest, lineage.dataset_rows)
        recorded = Recorded(measured, principal, created_at)
        append(session, manifest.tenant, version, recorded, Source.TRAINING)
    for measured in lineage.evaluations:
        recorded = Recorded(measured, principal, created_at)
        append(session, manifest.tenant, version, recorded, Source.EVALUATION)


def evaluations(session: Session, tenant: str, version: str) -> list[Recorded]:
    """A version's evaluations, newest first."""
    query = select(MeasurementRow).where(
        MeasurementRow.tenant == tenant,
        MeasurementRow.version == version,
        MeasurementRow.source == Source.EVALUATION.value,
    )
    return [
        Recorded(
            Evaluation(row.metric, row.value, row.dataset_digest, row.dataset_rows, row.note),
            row.principal,
            row.created_at,
        )
        for row in session.scalars(query.order_by(MeasurementRow.number.desc()))
    ]
