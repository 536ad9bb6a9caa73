"""How fast jobs train here, by what those before them measured.

Invariant: nothing is made up.  A speed that was never measured here is not known, and nothing is concluded from it.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median_high

from services.trainer.job import Job, Order
from services.trainer.settings import Method, Objective


@dataclass(frozen=True, slots=True)
class Kind:
    """What jobs that train about equally fast share.

    The method stands for the precision too, which it alone decides: all parameters in fp32, QLoRA's base in 4 bits.
    Threads are not among it: seconds are charged by the share of the machine that they are.
    """

    base_digest: str
    method: Method
    objective: Objective
    # What they send each other takes time as well.
    processes: int
    gradient_checkpointing: bool


def kind_of(order: Order) -> Kind:
    """The kind of an order."""
    settings = order.settings
    # Joint methods go through the same bank, and differ by a factor.
    method = Method.LORA if settings.method.joint else settings.method
    return Kind(order.base_digest, method, settings.objective, order.processes, settings.gradient_checkpointing)


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
