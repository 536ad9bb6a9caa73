"""How fast jobs train here, by what those before them measured.

Invariant: nothing is made up.  A speed that was never measured here is not known, and nothing is concluded from it.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import median_high

from services.trainer.job import Job, Order
from services.trainer.settings import Objective

# What jobs that train about equally fast share: the base's digest, whether they train jointly, and the objective.
Kind = tuple[str, bool, Objective]


def kind_of(order: Order) -> Kind:
    """The kind of an order."""
    return order.base_digest, order.settings.method.joint, order.settings.objective


def measured(job: Job) -> float | None:
    """Tokens a second that the job trained, over the seconds of the machine that were its share; None before its first."""
    seconds = job.measures.charged_seconds
    return job.progress.trained_tokens / seconds if seconds > 0 and job.progress.trained_tokens else None


def speeds(jobs: Iterable[Job]) -> Mapping[Kind, float]:
    """The median of each kind, in tokens a second."""
    found: dict[Kind, list[float]] = defaultdict(list)
    for job in jobs:
        if speed := measured(job):
            found[kind_of(job.order)].append(speed)
    return {kind: median_high(of_kind) for kind, of_kind in found.items()}
