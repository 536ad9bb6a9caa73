"""Answers to held-out questions during a solo job, measured as those of joint jobs are.

Invariant: the first rows that ask something are asked, the same at every evaluation.
"""

from collections.abc import Callable, Sequence
from typing import Any

from services.trainer.batches import micro_batches
from services.trainer.data.examples import Example, Judged, Pair
from services.trainer.joint.answers import Question, measures, question
from services.trainer.joint.generation import generate
from services.trainer.settings import Settings

Row = Example | Pair | Judged


def questions_of(rows: Sequence[Row], wanted: int) -> list[Question]:
    """The first `wanted` rows that answer a prompt; of a pair the better answer is expected."""
    found = (question(_shown(row)) for row in rows)
    return [asked for asked in found if asked is not None][:wanted]


def answered(
    model: Any,
    decode: Callable[[Sequence[int]], str],
    questions: Sequence[Question],
    settings: Settings,
    turn_ends: Sequence[int],
) -> dict[str, float]:
    """Answer greedily, and measure; `model` is in evaluation mode, `turn_ends` as `generate` takes them."""
    limit = settings.generation_tokens
    costs = [len(asked.prompt.tokens) + limit for asked in questions]
    pairs: list[tuple[str, str]] = []
    for part in micro_batches(range(len(questions)), costs, settings.micro_batch_tokens):
        given = generate(model, [questions[index].prompt.tokens for index in part], limit, turn_ends)
        pairs += [
            (decode(tokens), decode(questions[index].expected)) for tokens, index in zip(given, part, strict=True)
        ]
    return measures(pairs)


def _shown(row: Row) -> Example:
    match row:
        case Pair(chosen, _):
            return chosen
        case Judged(example, _):
            return example
        case Example():
            return row
