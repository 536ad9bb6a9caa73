"""KTO's mismatches: a judged row's question with the answer to another one.

KTO takes its zero point, how far the model has moved altogether, from them (Ethayarajh et al., 2024, section 4.1).
Invariants: the partner is found in the split and not in the batch, so that its reference is computed once and not once
an epoch; and references are of the mismatches that steps are measured by, so a job keeps the pairing that it began with.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from services.trainer.data.examples import Example, Judged

# Under which name a checkpoint's state holds it.
PAIRING = "pairing"


class Pairing(StrEnum):
    """Whose answer a row's question is given."""

    OTHER_QUESTION = "other question"
    # The row's before, also where that answers the same question: what was done up to format 3 of checkpoints.
    ROW_BEFORE = "row before"


def pairing_of(state: Mapping[str, Any]) -> Pairing:
    """With which pairing a job began whose checkpoint has this state."""
    return Pairing(state.get(PAIRING, Pairing.ROW_BEFORE))


def mismatches(rows: Sequence[Judged], max_row_tokens: int, pairing: Pairing = Pairing.OTHER_QUESTION) -> list[Example]:
    """The mismatch of each row of a split."""
    partners = [index - 1 for index in range(len(rows))]
    if pairing is Pairing.OTHER_QUESTION:
        partners = _of_other_questions(rows) or partners
    return [
        mismatch(row.example, rows[partner].example, max_row_tokens)
        for row, partner in zip(rows, partners, strict=True)
    ]


def mismatch(asked: Example, answered: Example, max_tokens: int) -> Example:
    """The question of one row with the answer of another, cut to `max_tokens` (but to no less than one token of it)."""
    question = asked.tokens[: question_tokens(asked)]
    begin = question_tokens(answered)
    room = max(1, max_tokens - len(question))
    return Example(
        question + answered.tokens[begin : begin + room],
        (False,) * len(question) + answered.supervised[begin : begin + room],
    )


def question_tokens(example: Example) -> int:
    """Tokens before the first that is supervised; at least one, on which no loss can be taken."""
    return max(1, next((index for index, kept in enumerate(example.supervised) if kept), len(example.tokens)))


def _of_other_questions(rows: Sequence[Judged]) -> list[int]:
    """The partner of each row; none where all rows ask the same.

    Rows that follow one another with one question, as the two of a pair do, take those of the question before, each the
    one at its own place: so of pairs wanted answers are mismatched with wanted ones, and as often as they are learned.
    TRL does so but for the first of a block, which sets all wanted answers before the others and moves them on by one
    (`KTOTrainer`, 1.16).  The first question takes those of the last.
    """
    count = len(rows)
    begins = [index for index in range(count) if not _ask_the_same(rows[index - 1].example, rows[index].example)]
    partners = [0] * count if begins else []
    for number, begin in enumerate(begins):
        end = begins[number + 1] if number + 1 < len(begins) else begins[0] + count
        earlier = begins[number - 1]
        length = (begin - earlier) % count
        for index in range(begin, end):
            partners[index % count] = (earlier + (index - begin) % length) % count
    return partners


def _ask_the_same(first: Example, second: Example) -> bool:
    length = question_tokens(first)
    return length == question_tokens(second) and first.tokens[:length] == second.tokens[:length]
