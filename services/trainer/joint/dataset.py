"""What one job trains on: its sequences as flat arrays, in the order in which its rows lie in the file.

Two hundred jobs are resident at once, and Python's integers take ten times the room of these.
Invariant: rows of one split are all of one kind, and row r is the sequences r * width to r * width + width - 1.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy
from numpy.typing import NDArray
from safetensors.numpy import load, save

from services.trainer.data.examples import Example, Judged, Pair
from services.trainer.joint.mismatching import Pairing, mismatches


class Kind(Enum):
    """What a row is."""

    PLAIN = "plain"
    # Chosen, rejected.
    PAIR = "pair"
    # The answer, and its question with another row's answer (`mismatching`).
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
    lengths: NDArray[numpy.int32] = field(init=False)

    def __post_init__(self) -> None:
        by_row = numpy.diff(self.ends, prepend=0).reshape(-1, self.kind.width)
        trained = by_row[:, :1] if self.kind is Kind.JUDGED else by_row
        object.__setattr__(self, "lengths", trained.sum(axis=1).astype(numpy.int32))

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def size_bytes(self) -> int:
        """What it takes in memory."""
        arrays = (self.tokens, self.supervised, self.ends, self.desirable, self.lengths)
        return sum(array.nbytes for array in arrays)

    def sequence(self, index: int) -> Example:
        """Sequence `index` as the bank takes it."""
        begin, end = self._begin(index), int(self.ends[index])
        return Example(tuple(self.tokens[begin:end].tolist()), tuple(self.supervised[begin:end].tolist()))

    def _begin(self, index: int) -> int:
        return int(self.ends[index - 1]) if index else 0

    def sequence_tokens(self, wanted: Iterable[int]) -> list[int]:
        """Length of each of the wanted sequences."""
        return [int(self.ends[index]) - self._begin(index) for index in wanted]

    def row_tokens(self, rows: Iterable[int]) -> list[int]:
        """Length of each of these rows in a training pass."""
        return [int(self.lengths[row]) for row in rows]

    def sequences(self, rows: Sequence[int]) -> list[Example]:
        """What a training pass over these rows takes: of a judged row its answer alone."""
        width = 1 if self.kind is Kind.JUDGED else self.kind.width
        return [self.sequence(row * self.kind.width + side) for row in rows for side in range(width)]

    def wanted(self, rows: Sequence[int]) -> list[bool]:
        """Which of `sequences` are to become likely; the others are there to become less so."""
        match self.kind:
            case Kind.PLAIN:
                return [True] * len(rows)
            case Kind.PAIR:
                return [True, False] * len(rows)
            case Kind.JUDGED:
                return [bool(self.desirable[row]) for row in rows]

    def supervised_tokens(self, rows: Sequence[int]) -> int:
        """Tokens of these rows that the loss is taken on."""
        return sum(example.supervised_tokens for example in self.sequences(rows))

    @property
    def longest_tokens(self) -> int:
        """Length of the longest sequence; 0 when there is none."""
        return int(numpy.diff(self.ends, prepend=0).max(initial=0))

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


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Splits:
    """What a job trains on and, where anything is held out, is evaluated on; `pairing` is that of judged rows.

    `turn_ends` are the tokens with which answers end under the base's template (`Encoder.turn_ends`).

    Never written to: jobs that read the same rows alike have it in common (`sharing`).
    """

    training: Rows
    held_out: Rows | None = None
    pairing: Pairing = Pairing.OTHER_QUESTION
    turn_ends: tuple[int, ...] = ()

    @property
    def size_bytes(self) -> int:
        """What they take in memory."""
        return sum(rows.size_bytes for rows in self.by_name().values())

    def paired(self, pairing: Pairing, max_row_tokens: int) -> "Splits":
        """The same rows with the mismatches of this pairing."""
        if pairing is self.pairing or self.training.kind is not Kind.JUDGED:
            return self

        def laid(rows: Rows) -> Rows:
            return rows_of(rows.examples(), max_row_tokens, pairing)

        held_out = laid(self.held_out) if self.held_out else None
        return Splits(laid(self.training), held_out, pairing, self.turn_ends)

    def by_name(self) -> dict[str, Rows]:
        """The splits that there are, in the order in which references are computed."""
        return {"training": self.training} | ({"held_out": self.held_out} if self.held_out else {})


def rows_of(
    examples: Sequence[Example] | Sequence[Pair] | Sequence[Judged] | Sequence[Example | Pair | Judged],
    max_row_tokens: int,
    pairing: Pairing = Pairing.OTHER_QUESTION,
) -> Rows:
    """Lay examples, all of one kind, end to end; judged ones get their mismatches."""
    judged = [example for example in examples if isinstance(example, Judged)]
    assert len(judged) in (0, len(examples)), "rows of two kinds in one dataset"
    mismatched = iter(mismatches(judged, max_row_tokens, pairing))
    sequences: list[Example] = []
    kind = Kind.PLAIN
    for example in examples:
        match example:
            case Pair(chosen, rejected):
                kind = Kind.PAIR
                sequences += [chosen, rejected]
            case Judged(answer, _):
                kind = Kind.JUDGED
                sequences += [answer, next(mismatched)]
            case Example():
                sequences.append(example)
    return Rows(
        kind,
        numpy.fromiter((token for sequence in sequences for token in sequence.tokens), dtype=numpy.int32),
        numpy.fromiter((kept for sequence in sequences for kept in sequence.supervised), dtype=numpy.bool_),
        numpy.cumsum([len(sequence.tokens) for sequence in sequences], dtype=numpy.int64),
        numpy.array([example.desirable for example in judged], dtype=numpy.bool_),
    )
