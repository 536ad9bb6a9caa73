"""The smallest pieces of a job's work: what goes through the model in one pass, and what comes back.

Invariant: how a job is cut into units depends on its own rows and settings alone, so that its sums are added in the same
order whoever shares the pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from torch import Tensor

from services.trainer.data.examples import Example


class UnitKind(Enum):
    """What a unit is for."""

    # The answers of the model that training starts from.
    REFERENCE = "reference"
    # How far the model has moved: KTO's zero point.
    MISMATCH = "mismatch"
    TRAIN = "train"
    EVALUATION = "evaluation"
    GENERATION = "generation"

    @property
    def scored(self) -> bool:
        """Whether log-probabilities alone are wanted, without a gradient."""
        return self in (UnitKind.REFERENCE, UnitKind.MISMATCH, UnitKind.EVALUATION)


@dataclass(frozen=True, slots=True)
class Unit:
    """Sequences of one pass (of a GENERATION unit: prompts).  `closes_step`: an optimizer step follows.

    Answers have at most `answer_tokens`, and end with one of `turn_ends` or as the base itself ends.
    """

    kind: UnitKind
    sequences: tuple[Example, ...]
    closes_step: bool = False
    answer_tokens: int = 0
    turn_ends: tuple[int, ...] = ()

    @property
    def tokens(self) -> int:
        """Tokens that go through the model, none of them padding."""
        return sum(len(sequence.tokens) for sequence in self.sequences) + self.answer_tokens * len(self.sequences)


@dataclass(frozen=True, slots=True)
class Trained:
    """What became of a TRAIN unit.  `gradient_norm` is the whole step's before clipping, 0 before the step closes."""

    loss: float
    gradient_norm: float = 0.0


# Of a scored unit the log-probability of each sequence, [sequences] fp32; of GENERATION the tokens of each answer.
Answer = Tensor | Trained | list[list[int]]


def parts(lengths: Sequence[int], budget_tokens: int) -> list[range]:
    """Cut items of these lengths, in their order, so that no part holds more tokens (one item always fits)."""
    found: list[range] = []
    begin = held = 0
    for index, length in enumerate(lengths):
        if index > begin and held + length > budget_tokens:
            found.append(range(begin, index))
            begin, held = index, 0
        held += length
    if begin < len(lengths):
        found.append(range(begin, len(lengths)))
    return found
