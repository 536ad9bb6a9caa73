"""What an order is completed with before it is queued: its cost in memory, its threads, and what the caller should know.

Invariant: what depends on the machine is settled here, once; a job that is queued keeps it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from services.trainer.honoured import require_honoured
from services.trainer.job import Order
from services.trainer.needs import Architecture, joint_base_parts, joint_job_parts
from services.trainer.row_needs import Data, joint_row_bytes, reading_bytes, solo_row_bytes
from services.trainer.settings import Settings
from services.trainer.solo.needs import solo_parts

# What a job's own rows are named among its parts.
_ROWS = "rows"


def completed(order: Order, base: Architecture, *, threads: int, serving_rank: int, data: Data | None = None) -> Order:
    """The order with its needs and warnings; ``serving_rank`` is the highest rank that the deployment serves.

    ``data`` is what it trains on: the order is from then on for these versions, of which its needs are.

    Raises FIELD_INVALID and SETTINGS_UNFIT as `require_honoured`.
    """
    require_honoured(order, base)
    data = data or Data()
    shared, own = memory_parts(base, order, data)
    return replace(
        order,
        dataset=data.training.version_name if data.training else order.dataset,
        validation_dataset=data.held_out.version_name if data.held_out else order.validation_dataset,
        threads=threads,
        job_bytes=sum(own.values()),
        row_bytes=own.get(_ROWS, 0),
        base_bytes=sum(shared.values()),
        warnings=(*order.warnings, *_warnings(order.settings, serving_rank)),
    )


def memory_parts(base: Architecture, order: Order, data: Data) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """Bytes by part, of what is shared with others on the base and of the job's own, in each of its processes.

    A job that trains alone holds its base for itself.  Rows count for each job of a sweep, which may lie on different
    machines or be alone with them; while they are together they hold them once (`joint.sharing`).
    """
    settings, named = order.settings, bool(order.validation_dataset)
    if settings.method.joint:
        shared = joint_base_parts(base, settings) | _rows("reading rows", reading_bytes(order, data))
        own = joint_job_parts(base, settings, validation_dataset=named)
        return shared, own | _rows(_ROWS, joint_row_bytes(order, data))
    alone = solo_parts(base, settings, order.processes, validation_dataset=named)
    return {}, alone | _rows(_ROWS, solo_row_bytes(order, data))


def _rows(name: str, size_bytes: int) -> dict[str, int]:
    return {name: size_bytes} if size_bytes else {}


def _warnings(settings: Settings, serving_rank: int) -> Sequence[str]:
    highest = max([settings.rank, *(rank for _, rank in settings.rank_pattern)])
    if settings.method.makes_adapter and highest > serving_rank:
        return [
            f"rank {highest} is over {serving_rank}, the highest that this deployment's generator serves: "
            f"train with a rank up to {serving_rank}, or raise TRIVIUM_GENERATOR_MAX_LORA_RANK before serving it "
            "(without an alias, --alias -, the version is kept and nobody waits for it to serve)"
        ]
    return []
