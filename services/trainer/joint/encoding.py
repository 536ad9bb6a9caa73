"""From a job's order to what it trains on and is evaluated on.

Runs in a process of its own (`encoding_child`): files are a caller's and the chat template may be a tenant's.
Invariant: the same order over the same files gives the same arrays.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from services.trainer import material
from services.trainer.data.examples import Encoder
from services.trainer.joint.dataset import Rows, rows_of
from services.trainer.work import Work


@dataclass(frozen=True, slots=True)
class Read:
    """What was read for a job, what people should know of it, and facts that belong to the version.

    `turn_ends` as `Splits.turn_ends`.
    """

    training: Rows
    held_out: Rows | None
    messages: tuple[str, ...]
    facts: Mapping[str, object]
    turn_ends: tuple[int, ...] = ()


def read(work: Work, encoder: Encoder) -> Read:
    """Encode, cut and split the job's files.  Raises Refused for a bad row, and when there is nothing to train on."""
    source = material.Source.of(work)
    found, limit = material.read(source, encoder), source.max_row_tokens
    held_out = rows_of(found.validation, limit) if found.validation else None
    return Read(rows_of(found.training, limit), held_out, tuple(found.messages), found.facts, encoder.turn_ends())
