"""What a job would cost, before anything is spent: tokens by its rows, memory by arithmetic, time by what was measured.

Invariant: nothing is made up.  A speed that was never measured here is 0, and so is the time that would follow from it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.trainer.data.dataset_rows import Dataset, find
from services.trainer.job import Job, Order
from services.trainer.job_rows import job_of
from services.trainer.jobs import examples, steps
from services.trainer.needs import Architecture
from services.trainer.ordering import memory_parts
from services.trainer.scheduling.state import Node
from services.trainer.settings import Objective
from services.trainer.solo.needs import trained_parameters
from services.trainer.store import JobRow

# The newest jobs that are looked at for a speed; of these the median of those like the one in question.
_RECENT_JOBS = 200
# Adapters are kept in fp32, full models in their base's own precision.
_FLOAT_BYTES, _HALF_BYTES = 4, 2


@dataclass(frozen=True, slots=True)
class Estimate:
    """Tokens over all passes, optimizer steps, seconds of an otherwise idle machine, bytes.

    ``tokens_per_second`` is what jobs of the same base and method reached here, 0 when none has trained yet; then
    ``seconds`` is 0 too.  ``memory_parts`` sum to ``memory_bytes``.
    """

    order: Order
    tokens: int
    steps: int
    seconds: float
    tokens_per_second: float
    trainable_parameters: int
    version_bytes: int
    memory_parts: Mapping[str, int]
    fits: bool
    warnings: Sequence[str]

    @property
    def memory_bytes(self) -> int:
        """All of it."""
        return sum(self.memory_parts.values())


class Estimates:
    """Reads what datasets hold and what jobs measured."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, tenant: str, order: Order, base: Architecture, nodes: Sequence[Node]) -> Estimate:
        """The estimate of an order that is complete.  Raises DATASET_NOT_FOUND."""

        def query(session: Session) -> tuple[Dataset, float]:
            recent = select(JobRow).order_by(JobRow.created_at.desc()).limit(_RECENT_JOBS)
            return find(session, tenant, order.dataset), speed(order, [job_of(row) for row in session.scalars(recent)])

        dataset, tokens_per_second = await self._database.read(query)
        return estimate(order, dataset, base, tokens_per_second, nodes)


def estimate(
    order: Order, dataset: Dataset, base: Architecture, tokens_per_second: float, nodes: Sequence[Node]
) -> Estimate:
    """Work it out."""
    settings = order.settings
    count = examples(dataset, order)
    planned = steps(count, order)
    # Both sides of a pair go through the model, and each is cut by itself.
    sides = 2 if settings.objective is Objective.DPO else 1
    mean_tokens = min(dataset.tokens / max(1, count), sides * settings.max_row_tokens)
    tokens = round(planned * min(settings.batch_rows, count) * mean_tokens)
    trained = trained_parameters(base, settings)
    shared, own = memory_parts(base, settings, order.processes)
    parts = {**shared, **own}
    return Estimate(
        order=order,
        tokens=tokens,
        steps=planned,
        seconds=tokens / tokens_per_second if tokens_per_second else 0.0,
        tokens_per_second=tokens_per_second,
        trainable_parameters=trained,
        version_bytes=trained * (_FLOAT_BYTES if settings.method.makes_adapter else _HALF_BYTES),
        memory_parts=parts,
        fits=any(sum(parts.values()) <= node.memory_bytes for node in nodes),
        warnings=[*order.warnings, *_warnings(order, dataset, planned)],
    )


def speed(order: Order, recent: Sequence[Job]) -> float:
    """Median of the tokens a second that jobs like it trained, over the seconds of the machine that were theirs."""
    speeds = sorted(
        job.progress.trained_tokens / job.measures.charged_seconds
        for job in recent
        if job.measures.charged_seconds > 0
        and job.order.base_digest == order.base_digest
        and job.order.settings.method.joint == order.settings.method.joint
        and job.order.settings.objective is order.settings.objective
    )
    return speeds[len(speeds) // 2] if speeds else 0.0


def _warnings(order: Order, dataset: Dataset, planned: int) -> Sequence[str]:
    settings, found = order.settings, []
    texts = settings.objective is Objective.CONTINUED
    if dataset.max_row_tokens > settings.max_row_tokens and not texts:
        found.append(
            f"the longest row has {dataset.max_row_tokens} tokens, rows are cut at {settings.max_row_tokens}: "
            "raise max_row_tokens, or validate the dataset to see which"
        )
    if planned < 20:
        found.append(f"{planned} steps are few to learn from: more epochs, a smaller batch_rows or more rows")
    return found
