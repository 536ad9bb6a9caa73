"""What one job trains on: its sequences as flat arrays, in the order in which its rows lie in the file.

Two hundred jobs are resident at once, and Python's integers take ten times the room of these.
Invariant: rows of one split are all of one kind, and row r is the sequences r * width to r * width + width - 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy
from numpy.typing import NDArray
from safetensors.numpy import load, save

from services.trainer.data.examples import Example, Judged, Pair


class Kind(Enum):
    """What a row is."""

    PLAIN = "plain"
    # Chosen, rejected.
    PAIR = "pair"
    # The answer, and its question with another row's answer.
    JUDGED = "judged"

    @property
    def width(self) -> int:
        """Sequences of a row."""
        return 1 if self is Kind.PLAIN else 2


@dataclass(frozen=True, slots=True)
class Rows:
    """One split.  `tokens` and `supervised` lie end to end; `ends[i]` is where sequence i ends.  `desirable` [rows]."""

    kind: Kind
    tokens: NDArray[numpy.int32]
    supervised: NDArray[numpy.bool_]
    ends: NDArray[numpy.int64]
    desirable: NDArray[numpy.bool_]
    # Of each row in a training pass: the mismatch of a judged one goes through the model apart, without a gradient.
    lengths: list[int] = field(init=False)
    sequence_tokens: list[int] = field(init=False)

    def __post_init__(self) -> None:
        sizes = numpy.diff(self.ends, prepend=0)
        object.__setattr__(self, "sequence_tokens", sizes.tolist())
        by_row = sizes.reshape(-1, self.kind.width)
        trained = by_row[:, :1] if self.kind is Kind.JUDGED else by_row
        object.__setattr__(self, "lengths", trained.sum(axis=1).tolist())

    def __len__(self) -> int:
        return len(self.lengths)

    def sequence(self, index: int) -> Example:
        """Sequence `index` as the bank takes it."""
        begin, end = int(self.ends[index - 1]) if index else 0, int(self.ends[index])
        return Example(tuple(self.tokens[begin:end].tolist()), tuple(self.supervised[begin:end].tolist()))

    def sequences(self, rows: Sequence[int]) -> list[Example]:
        """What a training pass over these rows takes: of a judged row its answer alone."""
        width = 1 if self.kind is Kind.JUDGED else self.kind.width
        return [self.sequence(row * self.kind.width + side) for row in rows for side in range(width)]

    def supervised_tokens(self, rows: Sequence[int]) -> int:
        """Tokens of these rows that the loss is taken on."""
        return sum(example.supervised_tokens for example in self.sequences(rows))

    @property
    def longest_tokens(self) -> int:
        """Length of the longest sequence; 0 when there is none."""
        return max(self.sequence_tokens, default=0)

    @property
    def highest_token(self) -> int:
        """The largest token id; -1 when there is none."""
        return int(self.tokens.max(initial=-1))

    def examples(self) -> list[Example] | list[Pair] | list[Judged]:
        """The rows as `rows_of` was given them."""
        match self.kind:
            case Kind.PLAIN:
                return [self.sequence(index) for index in range(len(self))]
            case Kind.PAIR:
                return [Pair(self.sequence(2 * row), self.sequence(2 * row + 1)) for row in range(len(self))]
            case Kind.JUDGED:
                return [Judged(self.sequence(2 * row), bool(self.desirable[row])) for row in range(len(self))]

    def encode(self) -> bytes:
        """The split as it goes from one process to another."""
        arrays = {
            "tokens": self.tokens,
            "supervised": self.supervised,
            "ends": self.ends,
            "desirable": self.desirable,
        }
        encoded: bytes = save(arrays)
        return encoded

    @classmethod
    def decode(cls, data: bytes, kind: Kind) -> "Rows":
        """What `encode` made."""
        return cls(kind, **load(data))


@dataclass(frozen=True, slots=True)
class Splits:
    """What a job trains on and, where anything is held out, is evaluated on."""

    training: Rows
    held_out: Rows | None = None

    def by_name(self) -> dict[str, Rows]:
        """The splits that there are, in the order in which references are computed."""
        return {"training": self.training} | ({"held_out": self.held_out} if self.held_out else {})


def rows_of(examples: Sequence[Example | Pair | Judged], max_row_tokens: int) -> Rows:
    """Lay examples, all of one kind, end to end; judged ones get their mismatches."""
    sequences: list[Example] = []
    desirable: list[bool] = []
    kind = Kind.PLAIN
    for index, example in enumerate(examples):
        match example:
            case Pair(chosen, rejected):
                kind = Kind.PAIR
                sequences += [chosen, rejected]
            case Judged(answer, good):
                kind = Kind.JUDGED
                before = examples[index - 1]
                assert isinstance(before, Judged), "rows of two kinds in one dataset"
                sequences += [answer, mismatch(answer, before.example, max_row_tokens)]
                desirable.append(good)
            case Example():
                sequences.append(example)
    return Rows(
        kind,
        numpy.fromiter((token for sequence in sequences for token in sequence.tokens), dtype=numpy.int32),
        numpy.fromiter((kept for sequence in sequences for kept in sequence.supervised), dtype=numpy.bool_),
        numpy.cumsum([len(sequence.tokens) for sequence in sequences], dtype=numpy.int64),
        numpy.array(desirable, dtype=numpy.bool_),
    )


def mismatch(asked: Example, answered: Example, max_tokens: int) -> Example:
    """The question of one row with the answer of another, cut to `max_tokens` (but to no less than one token of it).

    The partner is the dataset's neighbour and not the batch's: so its reference is computed once, not once an epoch.
    """
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
