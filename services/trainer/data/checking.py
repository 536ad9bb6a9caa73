"""Reads a dataset whole and says what it holds, or what is wrong with it, whichever base it is for.

What is read is the uploader's and may be made to cost: the service never calls this
itself, `checking_child` does, within limits (`checker`).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import BinaryIO

from services.trainer.data import reading, rows
from services.trainer.data.encoding import encode, sides
from services.trainer.data.examples import Encoder, Example, Unrenderable

# A person mends the first few and runs again; more would only be scrolled past.
MAX_NAMED_PROBLEMS = 20
# What a report keeps, and says that it does; a file with more has one fault in every line.
MAX_KEPT_PROBLEMS = 100_000
_OTHER_BASE = (
    "the deployment's default base cannot be trained on this row; for another one check the dataset with its name "
    "(trivium data check --base base:NAME)"
)


@dataclass(frozen=True, slots=True)
class Counted:
    """What a dataset without a problem holds.

    Tokens are counted under the encoder's chat template; of a row that it refuses, those of its texts.
    """

    format: rows.Format
    rows: int
    tokens: int
    max_row_tokens: int
    supervised_tokens: int


@dataclass(frozen=True, slots=True)
class Flawed:
    """The first problems of a dataset that cannot be trained on, and how many rows have one."""

    problems: tuple[rows.Problem, ...]
    count: int


def check(
    file: BinaryIO, encoder: Encoder, expected: rows.Format | None, say: Callable[[rows.Problem], None]
) -> Counted | int:
    """Read every row of `file` and count its tokens; return instead how many rows are bad when any is.

    `say` hears each problem, in order.  A row that the encoder's template refuses is none, but is warned of: the dataset
    may be for a base whose template takes it.
    """
    count = tokens = longest = supervised = bad = 0
    for row in reading.read(file, expected):
        if isinstance(row, rows.Problem):
            bad += 1
            say(row)
        # With a problem, counting is in vain: only more of them are looked for.
        elif not bad:
            found = _sequences(row, encoder, say)
            count += 1
            tokens += sum(len(sequence.tokens) for sequence in found)
            longest = max(longest, *(len(sequence.tokens) for sequence in found))
            supervised += sum(sequence.supervised_tokens for sequence in found)
    if not bad and not count:
        say(
            rows.Problem(
                1, "", "the file holds no row; write one JSON object a line, or a line under a CSV's header", whole=True
            )
        )
        return 1
    return bad or Counted(expected or reading.recognise(file) or rows.Format.CHAT, count, tokens, longest, supervised)


def _sequences(row: rows.AnyRow, encoder: Encoder, say: Callable[[rows.Problem], None]) -> tuple[Example, ...]:
    """What the row is for the model; of a record its texts, of which nothing is supervised yet."""
    if isinstance(row, rows.Labelled):
        return tuple(_text(str(value), encoder, supervised=False) for value in row.fields.values())
    try:
        return sides(encode(row, encoder))
    except Unrenderable as error:
        say(rows.Problem(row.line, "messages", f"{_OTHER_BASE}: {error}", fatal=False))
        return tuple(_unrendered(turns, said_from, encoder) for turns, said_from in _conversations(row))


def _conversations(row: rows.AnyRow) -> Iterable[tuple[tuple[rows.Turn, ...], int]]:
    """What is written by a template, with the turn from which answers are learned."""
    if isinstance(row, rows.Row):
        yield row.turns, 0
    elif isinstance(row, rows.Preference):
        yield (*row.prompt, *row.chosen), len(row.prompt)
        yield (*row.prompt, *row.rejected), len(row.prompt)
    elif isinstance(row, rows.Judgement):
        yield (*row.prompt, *row.completion), len(row.prompt)


def _unrendered(turns: Iterable[rows.Turn], said_from: int, encoder: Encoder) -> Example:
    """The texts of a conversation without what a template puts around them."""
    texts = [
        _text(turn.said, encoder, supervised=turn.role == "assistant" and turn.learned and index >= said_from)
        for index, turn in enumerate(turns)
    ]
    return Example(
        tuple(token for text in texts for token in text.tokens),
        tuple(kept for text in texts for kept in text.supervised),
    )


def _text(text: str, encoder: Encoder, *, supervised: bool) -> Example:
    tokens = encoder.encode_text(text).tokens
    return Example(tokens, (supervised,) * len(tokens))
