"""Reads a dataset whole and says what it holds, or what is wrong with it.

What is read is the uploader's and may be made to cost: the service never calls this
itself, `checking_child` does, within limits (`checker`).
"""

from dataclasses import dataclass
from typing import BinaryIO

from services.trainer.data import rows
from services.trainer.data.examples import Encoder, Example, Unrenderable

# A person mends the first few and runs again; more would only be scrolled past.
MAX_NAMED_PROBLEMS = 20
MAX_REPORTED_PROBLEMS = 1000


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


def check(file: BinaryIO, encoder: Encoder, expected: rows.Format | None) -> Counted | Flawed:
    """Read every row of `file`, from its beginning, and count its tokens."""
    problems: list[rows.Problem] = []
    count = tokens = longest = supervised = bad = 0
    for row in rows.read(rows.bounded(file), expected):
        # With a problem, counting is in vain: only more of them are looked for.
        found = row if isinstance(row, rows.Problem) or bad else _encoded(row, encoder)
        if isinstance(found, rows.Problem):
            bad += 1
            problems.extend([found] if bad <= MAX_NAMED_PROBLEMS else [])
        elif isinstance(found, Example):
            count += 1
            tokens += len(found.tokens)
            longest = max(longest, len(found.tokens))
            supervised += found.supervised_tokens
    if not bad and not count:
        problems = [rows.Problem(1, "", "the file holds no row; write one JSON object a line")]
    if problems:
        return Flawed(tuple(problems), max(bad, 1))
    return Counted(_format(file, expected), count, tokens, longest, supervised)


def warnings(file: BinaryIO, encoder: Encoder, max_row_tokens: int) -> list[rows.Problem]:
    """Return at most 1000 problems of `file`; rows over `max_row_tokens` (0: no limit) are warned of."""
    found: list[rows.Problem] = []
    for row in rows.read(rows.bounded(file)):
        if len(found) >= MAX_REPORTED_PROBLEMS:
            break
        encoded = row if isinstance(row, rows.Problem) else _encoded(row, encoder)
        if isinstance(encoded, rows.Problem):
            found.append(encoded)
        elif max_row_tokens and (length := len(encoded.tokens)) > max_row_tokens:
            text = f"the row has {length} tokens, over {max_row_tokens}; it will be cut unless max_row_tokens is raised"
            found.append(rows.Problem(row.line, "", text, fatal=False))
    return found


def _encoded(row: rows.Row, encoder: Encoder) -> Example | rows.Problem:
    try:
        return encoder.encode(row.turns)
    except Unrenderable as error:
        return rows.Problem(row.line, "messages", str(error))


def _format(file: BinaryIO, expected: rows.Format | None) -> rows.Format:
    file.seek(0)
    recognised = next((found for line in rows.bounded(file) if (found := rows.recognise(line))), None)
    return expected or recognised or rows.Format.CHAT
