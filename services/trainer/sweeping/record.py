"""What the version of a sweep's best member keeps of the sweep: how it was run, and the table of all members.

Invariant: a sweep whose table the registry might not take, which comes out at its very end, is refused when it is ordered.
"""

import json
import math
from collections.abc import Mapping

from services.trainer.job import State
from services.trainer.settings import Metric
from services.trainer.solo.order import MARGIN
from services.trainer.sweeping.searchable import invalid
from services.trainer.sweeping.sweep import Asked, Member, Sweep, check, table

# The registry takes manifests of 768 KiB; a quarter is left for the settings, the files and where the version comes from.
MOST_TABLE_BYTES = 576 * 1024
# What stands in a table at most: ids are UUIDs, and a number of double precision has 24 characters.
_ID = "0" * 36
_MOST_STEPS = 10**12
_LONGEST = -1.2345678901234567e-300
_LONGEST_EVALUATION = dict.fromkeys((*(metric.value for metric in Metric), MARGIN), _LONGEST)


def lineage(sweep: Sweep) -> dict[str, object]:
    """Return it, fit for JSON."""
    return {
        "sweep": sweep.sweep,
        "metric": sweep.metric.value,
        "rungs": list(sweep.rungs),
        "kept_ratio": sweep.kept_ratio,
        "members": [
            {
                "place": place,
                "job": line.member.job.job,
                "values": dict(line.member.point),
                "step": line.member.job.progress.step,
                # As the wire says it: 0 for one that came to its end.
                "ended_at_rung": line.member.pruned_at_rung,
                "end": _end(line.member, sweep.best),
                # JSON knows no NaN.
                "evaluation": {name: value for name, value in line.evaluation.items() if math.isfinite(value)},
            }
            for place, line in enumerate(table(sweep), start=1)
        ],
    }


def require_sound(asked: Asked) -> None:
    """Raise FIELD_INVALID as `check`, and for a table that no version could keep."""
    check(asked)
    require_room(asked)


def require_room(asked: Asked) -> None:
    """Raise FIELD_INVALID for a sweep whose table may be longer than a version keeps."""
    length = most_bytes(asked)
    if length > MOST_TABLE_BYTES:
        problem = (
            f"the version keeps the table of all members, and that of these {len(asked.orders)} may have {_kib(length)} KiB, "
            f"over {_kib(MOST_TABLE_BYTES)}: give fewer members, or fewer and shorter values"
        )
        raise invalid("members", problem)


def most_bytes(asked: Asked) -> int:
    """How long `lineage` of the sweep can become, in bytes of JSON without blanks in UTF-8."""
    around = {"sweep": _ID, "metric": max(Metric, key=len).value, "rungs": [_LONGEST] * len(asked.rungs)}
    members = [_longest(asked, dict(point)) for point in asked.points]
    return _bytes({**around, "kept_ratio": _LONGEST, "members": members})


def _longest(asked: Asked, values: Mapping[str, str]) -> dict[str, object]:
    return {
        "place": len(asked.orders),
        "job": _ID,
        "values": values,
        "step": _MOST_STEPS,
        "ended_at_rung": len(asked.rungs),
        "end": State.FAILED.value,
        "evaluation": _LONGEST_EVALUATION,
    }


def _bytes(document: object) -> int:
    return len(json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode())


def _kib(length: int) -> int:
    return -(-length // 1024)


def _end(member: Member, best: str) -> str:
    """A word that stays the same while a version is being registered."""
    if member.job.job == best:
        return "best"
    return "failed" if member.job.state is State.FAILED else "ended"
