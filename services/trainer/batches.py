"""Which rows are trained on at which step, known before the first one.

Invariant: the plan depends on the rows' lengths, the settings and the seed, on nothing
else; so a resumed run needs a step number and no more to go on as if never stopped.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy
import torch
from numpy.typing import NDArray

# Rows are sorted by length inside windows of this many batches: little padding, yet every epoch mixes.
_WINDOW_BATCHES = 4


@dataclass(frozen=True, slots=True)
class _Epoch:
    """One epoch's plan: `rows` [rows], a batch behind the other; `order` [steps] says which of them each step takes.

    `tokens` [steps] are those up to and with each step.
    """

    number: int
    rows: NDArray[numpy.int32]
    order: NDArray[numpy.int32]
    tokens: NDArray[numpy.int64]


class Steps:
    """The row indices of every optimizer step, in order; `max_steps` 0 means all that the epochs take.

    An epoch is worked out when a step of it is asked for, and forgotten for another: a thousand epochs take no more
    memory than one, and none of the time of the jobs that step beside this one.
    """

    def __init__(
        self,
        lengths: Sequence[int] | NDArray[numpy.int32],
        *,
        batch_rows: int,
        epochs: int,
        seed: int,
        max_steps: int = 0,
    ) -> None:
        self._lengths = numpy.asarray(lengths, dtype=numpy.int32)
        self._batch_rows = batch_rows
        self._seed = seed
        self._epoch_steps = -(-len(lengths) // batch_rows)
        self._epoch_tokens = int(self._lengths.sum(dtype=numpy.int64))
        every = epochs * self._epoch_steps
        self._count = min(every, max_steps) if max_steps else every
        self._known: _Epoch | None = None
        self._tokens = self._tokens_before(self._count)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, step: int) -> list[int]:
        if not 0 <= step < self._count:
            raise IndexError(step)
        number, place = divmod(step, self._epoch_steps)
        epoch = self._epoch(number)
        begin = int(epoch.order[place]) * self._batch_rows
        rows: list[int] = epoch.rows[begin : begin + self._batch_rows].tolist()
        return rows

    def since(self, step: int) -> Iterator[list[int]]:
        """The steps from `step` on."""
        return (self[each] for each in range(step, self._count))

    def tokens_since(self, step: int) -> int:
        """Tokens of the steps from `step` on; none behind the last."""
        return self._tokens - self._tokens_before(min(step, self._count))

    def _tokens_before(self, step: int) -> int:
        if not step:
            return 0
        number, place = divmod(step, self._epoch_steps)
        return number * self._epoch_tokens + (int(self._epoch(number).tokens[place - 1]) if place else 0)

    def _epoch(self, number: int) -> _Epoch:
        if self._known is None or self._known.number != number:
            self._known = self._worked_out(number)
        return self._known

    def _worked_out(self, number: int) -> _Epoch:
        generator = torch.Generator().manual_seed(_mixed(self._seed, number))
        drawn = torch.randperm(len(self._lengths), generator=generator).numpy()
        window = numpy.arange(len(drawn)) // (self._batch_rows * _WINDOW_BATCHES)
        # By window, in it by length, and among equals by row.
        rows = drawn[numpy.lexsort((drawn, self._lengths[drawn], window))]
        order = torch.randperm(self._epoch_steps, generator=generator).numpy()
        begins = numpy.arange(0, len(rows), self._batch_rows)
        tokens = numpy.add.reduceat(self._lengths[rows], begins, dtype=numpy.int64)[order].cumsum()
        return _Epoch(number, rows.astype(numpy.int32), order.astype(numpy.int32), tokens)


def micro_batches(rows: Sequence[int], lengths: Sequence[int], budget_tokens: int) -> list[list[int]]:
    """Split one step's rows, shortest first, so that none holds more padded tokens than the budget (one row always fits)."""
    parts: list[list[int]] = []
    for row in sorted(rows, key=lambda row: (lengths[row], row)):
        if parts and (len(parts[-1]) + 1) * lengths[row] <= budget_tokens:
            parts[-1].append(row)
        else:
            parts.append([row])
    return parts


def _mixed(seed: int, epoch: int) -> int:
    # Another epoch is another permutation; the multiplier keeps neighbouring seeds apart (Knuth's 64-bit LCG).
    return (seed * 6364136223846793005 + epoch * 1442695040888963407 + 1) % (1 << 63)
