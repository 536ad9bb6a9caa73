"""What the model said of every row before it learned: preferences are compared with it.

Invariant: references are computed once, in the same parts whoever computes them, so a run that goes on from some of them
ends with the same bits.
"""

from collections.abc import Generator, Mapping, Sequence

import torch
from torch import Tensor

from services.trainer.joint.dataset import Rows
from services.trainer.joint.units import Answer, Unit, UnitKind, parts


class References:
    """The log-probability of each sequence of some splits, under the weights of the start."""

    def __init__(self, splits: Mapping[str, Rows], budget_tokens: int) -> None:
        self._splits = splits
        self._budget_tokens = budget_tokens
        self._found: dict[str, list[Tensor]] = {name: [] for name in splits}

    @property
    def sequences(self) -> int:
        """How many sequences have been answered."""
        return sum(len(part) for found in self._found.values() for part in found)

    def compute(self) -> Generator[Unit, Answer, None]:
        """The units that answer every row; goes on behind what was restored."""
        for name, rows in self._splits.items():
            found = self._found[name]
            done = sum(len(part) for part in found)
            for part in scored_parts(rows, range(len(rows.ends)), self._budget_tokens):
                if done:
                    # Cut where the last run cut, so a part is there whole or not at all.
                    done -= len(part)
                    continue
                scores = yield scored_unit(UnitKind.REFERENCE, rows, part)
                assert isinstance(scores, Tensor)
                found.append(scores)
            # One tensor, and not thousands of a few numbers.
            found[:] = [torch.cat(found)] if found else []

    def of(self, split: str) -> Tensor:
        """Those of a split, [rows, 2]."""
        return torch.cat(self._found[split]).view(-1, 2)

    def tensors(self) -> dict[str, Tensor]:
        """What there is so far, by split."""
        return {name: torch.cat(found) for name, found in self._found.items() if found}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `tensors` gave."""
        for name, found in tensors.items():
            self._found[name] = [found]


def scored_parts(rows: Rows, wanted: Sequence[int], budget_tokens: int) -> list[Sequence[int]]:
    """Cut the wanted sequences into parts that fit in a pass."""
    lengths = rows.sequence_tokens(wanted)
    return [wanted[part.start : part.stop] for part in parts(lengths, budget_tokens)]


def scored_unit(kind: UnitKind, rows: Rows, wanted: Sequence[int]) -> Unit:
    """A unit that asks for the log-probabilities of the wanted sequences."""
    return Unit(kind, tuple(rows.sequence(index) for index in wanted))
