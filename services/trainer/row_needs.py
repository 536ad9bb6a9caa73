"""What a job's rows take in memory, by what its datasets count, before any of them is read.

Tokens are those of the deployment's own base: another base's tokenizer makes about as many of the same text.
Invariant: what cannot be known before rows are made (of records, by a recipe) is counted as the most that it may be.
What was measured stands beside the constants.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from services.trainer.data.dataset_rows import Dataset
from services.trainer.data.rows import Format
from services.trainer.job import Order
from services.trainer.needs import pass_tokens
from services.trainer.settings import Objective
from services.trainer.settling import examples
from services.trainer.work import REMEMBERED_LINES

# The token itself, and whether it is learned; where a sequence ends.
_TOKEN_BYTES, _SEQUENCE_BYTES = 5, 8
# Of a row: its length, whether it is as wanted, and its place in the epoch.  Of a step of an epoch: which rows, and the
# tokens until then.
_ROW_BYTES, _STEP_BYTES = 9, 12
# A number of each sequence that it is compared with, or by which it is evaluated; twice while a step uses it.
_SCORE_BYTES = 8
# A token and its mark as Python's numbers, as what goes through the model next holds them; and a sequence around them.
_LOOSE_TOKEN_BYTES, _LOOSE_SEQUENCE_BYTES = 48, 300
# The last steps and evaluations as they were told: 840 bytes of the former, 1160 of the latter.
_TOLD_BYTES = REMEMBERED_LINES * 1200
# In the process that reads a dataset, beside what a token and a sequence are there, and while they are handed over.
_HANDED_TOKEN_BYTES, _READ_ROW_BYTES = 25, 800


@dataclass(frozen=True, slots=True)
class Data:
    """What a job trains on and is evaluated on; None for what is not named, or is not there."""

    training: Dataset | None = None
    held_out: Dataset | None = None


@dataclass(frozen=True, slots=True)
class _Laid:
    """What becomes of a dataset, at most."""

    rows: int
    sequences: int
    tokens: int
    longest_tokens: int


def joint_row_bytes(order: Order, data: Data) -> int:
    """Bytes of a job's rows on the bank, with what its steps and evaluations keep by row."""
    found = list(_laid(order, data))
    if not found:
        return 0
    settings = order.settings
    laid = sum(_arrays(each) + each.sequences * _SCORE_BYTES for each in found)
    steps = -(-found[0].rows // settings.batch_rows)
    tokens = sum(each.tokens for each in found)
    at_hand = min(tokens, pass_tokens(settings))
    asked = min(tokens, settings.generation_rows * max(each.longest_tokens for each in found))
    return laid + steps * _STEP_BYTES + (at_hand + asked) * _LOOSE_TOKEN_BYTES + _TOLD_BYTES


def reading_bytes(order: Order, data: Data) -> int:
    """Bytes that are in use while a job's rows are read, one job at a time."""
    found = list(_laid(order, data))
    each_token = _LOOSE_TOKEN_BYTES + _HANDED_TOKEN_BYTES
    return sum(
        each.tokens * each_token + each.sequences * _LOOSE_SEQUENCE_BYTES + each.rows * _READ_ROW_BYTES
        for each in found
    )


def solo_row_bytes(order: Order, data: Data) -> int:
    """Bytes of the rows of a job that trains alone, in each of its processes."""
    return sum(
        _arrays(each)
        + each.tokens * _LOOSE_TOKEN_BYTES
        + each.sequences * (_LOOSE_SEQUENCE_BYTES + _SCORE_BYTES)
        + each.rows * _STEP_BYTES
        for each in _laid(order, data)
    )


def _arrays(laid: _Laid) -> int:
    return laid.tokens * _TOKEN_BYTES + laid.sequences * _SEQUENCE_BYTES + laid.rows * _ROW_BYTES


def _laid(order: Order, data: Data) -> Iterator[_Laid]:
    """What is trained on, then what is evaluated on; a share that is held out is counted with the former."""
    if data.training is not None:
        yield _of(data.training, order, order.settings.sample_rows)
    if data.held_out is not None:
        yield _of(data.held_out, order, 0)


def _of(dataset: Dataset, order: Order, sample_rows: int) -> _Laid:
    settings, rows = order.settings, examples(dataset, order)
    sides = 2 if settings.objective is Objective.DPO else 1
    if dataset.format is Format.RECORDS:
        longest = settings.max_row_tokens
        tokens = rows * longest
    else:
        longest = min(settings.max_row_tokens, dataset.max_row_tokens)
        # A piece of a text repeats the last token of the one before it.
        tokens = dataset.tokens + (rows if settings.objective is Objective.CONTINUED else 0)
    rows = min(rows, sample_rows) if sample_rows else rows
    tokens = min(tokens, rows * sides * longest)
    # A judged answer stands beside its mismatch, which has about its length.
    sequences = 2 if settings.objective is Objective.KTO else 1
    return _Laid(rows, rows * sides * sequences, tokens * sequences, longest)
