"""Reads a dataset whole and says what it holds, or what is wrong with it.

What is read is the uploader's and may be made to cost: the service never calls this
itself, `checking_child` does, within limits (`checker`).
"""

from dataclasses import dataclass
from typing import BinaryIO

from services.trainer.data import reading, rows
from services.trainer.data.encoding import Preparation, default_objective, encode, sides
from services.trainer.data.examples import Encoder, Example, Unrenderable
from services.trainer.settings import Supervision

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
    for row in reading.read(file, expected):
        # With a problem, counting is in vain: only more of them are looked for.
        found = row if isinstance(row, rows.Problem) or bad else _sequences(row, encoder)
        if isinstance(found, rows.Problem):
            bad += 1
            problems.extend([found] if bad <= MAX_NAMED_PROBLEMS else [])
        elif isinstance(found, tuple):
            count += 1
            tokens += sum(len(sequence.tokens) for sequence in found)
            longest = max(longest, *(len(sequence.tokens) for sequence in found))
            supervised += sum(sequence.supervised_tokens for sequence in found)
    if not bad and not count:
        problems = [rows.Problem(1, "", "the file holds no row; write one JSON object a line")]
    if problems:
        return Flawed(tuple(problems), max(bad, 1))
    return Counted(_format(file, expected), count, tokens, longest, supervised)


def warnings(file: BinaryIO, encoder: Encoder, max_row_tokens: int) -> list[rows.Problem]:
    """Return at most 1000 problems of `file`; rows over `max_row_tokens` (0: no limit) are warned of."""
    kind = _format(file, None)
    preparation = Preparation(encoder, default_objective(kind), Supervision.ASSISTANT, max_row_tokens)
    found: list[rows.Problem] = []
    for row in reading.read(file):
        if len(found) >= MAX_REPORTED_PROBLEMS:
            break
        try:
            fitted = None if isinstance(row, rows.Problem) else preparation.of(row)
        except Unrenderable as error:
            found.append(rows.Problem(row.line, "messages", str(error)))
            continue
        if isinstance(row, rows.Problem):
            found.append(row)
        elif fitted is not None and fitted.was_cut:
            text = f"the row has {fitted.tokens} tokens, over {max_row_tokens}; it will be cut unless max_row_tokens is raised"
            found.append(rows.Problem(row.line, "", text, fatal=False))
    return found


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


def _format(file: BinaryIO, expected: rows.Format | None) -> rows.Format:
    return expected or reading.recognise(file) or rows.Format.CHAT
