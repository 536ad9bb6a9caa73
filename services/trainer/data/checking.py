"""Reads a dataset whole and says what it holds, or what is wrong with it.

What is read is the uploader's and may be made to cost: the service never calls this
itself, `checking_child` does, within limits (`checker`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from services.trainer.data import reading, rows
from services.trainer.data.encoding import encode, sides
from services.trainer.data.examples import Encoder, Example, Unrenderable

# A person mends the first few and runs again; more would only be scrolled past.
MAX_NAMED_PROBLEMS = 20
# What a report keeps; a file with more has one fault in every line.
MAX_KEPT_PROBLEMS = 100_000


@dataclass(frozen=True, slots=True)
class Counted:
    """What a dataset without a problem holds.  Tokens are counted under the encoder's chat template."""

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

    `say` hears each problem, in order.
    """
    count = tokens = longest = supervised = bad = 0
    for row in reading.read(file, expected):
        # With a problem, counting is in vain: only more of them are looked for.
        found = row if isinstance(row, rows.Problem) or bad else _sequences(row, encoder)
        if isinstance(found, rows.Problem):
            bad += 1
            say(found)
        elif isinstance(found, tuple):
            count += 1
            tokens += sum(len(sequence.tokens) for sequence in found)
            longest = max(longest, *(len(sequence.tokens) for sequence in found))
            supervised += sum(sequence.supervised_tokens for sequence in found)
    if not bad and not count:
        say(rows.Problem(1, "", "the file holds no row; write one JSON object a line"))
        return 1
    return bad or Counted(expected or reading.recognise(file) or rows.Format.CHAT, count, tokens, longest, supervised)


def _sequences(row: rows.AnyRow, encoder: Encoder) -> tuple[Example, ...] | rows.Problem:
    """What the row is for the model; of a record its texts, of which nothing is supervised yet."""
    if isinstance(row, rows.Labelled):
        texts = [encoder.encode_text(str(value)) for value in row.fields.values()]
        return tuple(Example(text.tokens, (False,) * len(text.tokens)) for text in texts)
    try:
        encoded = encode(row, encoder)
    except Unrenderable as error:
        return rows.Problem(row.line, "messages", str(error))
    return sides(encoded)
