"""What an order is completed with before it is queued: its cost in memory, its threads, and what the caller should know.

Invariant: what depends on the machine is settled here, once; a job that is queued keeps it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from services.trainer.honoured import require_honoured
from services.trainer.job import Order
from services.trainer.needs import Architecture, joint_base_parts, joint_job_parts
from services.trainer.settings import Settings
from services.trainer.solo.needs import solo_parts


def completed(order: Order, base: Architecture, *, threads: int, serving_rank: int) -> Order:
    """The order with its needs and warnings; ``serving_rank`` is the highest rank that the deployment serves.

    Raises FIELD_INVALID and SETTINGS_UNFIT as `require_honoured`.
    """
    require_honoured(order, base)
    shared, own = memory_parts(base, order)
    return replace(
        order,
        threads=threads,
        job_bytes=sum(own.values()),
        base_bytes=sum(shared.values()),
        warnings=(*order.warnings, *_warnings(order.settings, serving_rank)),
    )


def memory_parts(base: Architecture, order: Order) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """Bytes by part, of what is shared with others on the base and of the job's own, in each of its processes.

    A job that trains alone holds its base for itself.
    """
    settings, named = order.settings, bool(order.validation_dataset)
    if settings.method.joint:
        return joint_base_parts(base, settings), joint_job_parts(base, settings, validation_dataset=named)
    return {}, solo_parts(base, settings, order.processes, validation_dataset=named)


def _warnings(settings: Settings, serving_rank: int) -> Sequence[str]:
    highest = max([settings.rank, *(rank for _, rank in settings.rank_pattern)])
    if settings.method.makes_adapter and highest > serving_rank:
        return [
            f"rank {highest} is over {serving_rank}, the highest that this deployment's generator serves: "
            f"train with a rank up to {serving_rank}, or raise TRIVIUM_GENERATOR_MAX_LORA_RANK before serving it"
        ]
    return []
