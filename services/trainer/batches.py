"""Which rows are trained on at which step, known before the first one.

Invariant: the plan depends on the rows' lengths, the settings and the seed, on nothing
else; so a resumed run needs a step number and no more to go on as if never stopped.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate

import torch

# Rows are sorted by length inside windows of this many batches: little padding, yet every epoch mixes.
_WINDOW_BATCHES = 4


class Steps:
    """The row indices of every optimizer step, in order; `max_steps` 0 means all that the epochs take.

    An epoch is worked out when a step of it is asked for, and forgotten for another: a thousand epochs take no more
    memory than one, and none of the time of the jobs that step beside this one.
    """

    def __init__(self, lengths: Sequence[int], *, batch_rows: int, epochs: int, seed: int, max_steps: int = 0) -> None:
        self._lengths = lengths
        self._batch_rows = batch_rows
        self._seed = seed
        self._epoch_steps = -(-len(lengths) // batch_rows)
        self._epoch_tokens = sum(lengths)
        every = epochs * self._epoch_steps
        self._count = min(every, max_steps) if max_steps else every
        self._known: tuple[int, list[list[int]], list[int]] | None = None
        self._tokens = self._tokens_before(self._count)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, step: int) -> list[int]:
        if not 0 <= step < self._count:
            raise IndexError(step)
        epoch, place = divmod(step, self._epoch_steps)
        return self._epoch(epoch)[0][place]

    def since(self, step: int) -> Iterator[list[int]]:
        """The steps from `step` on."""
        return (self[each] for each in range(step, self._count))

    def tokens_since(self, step: int) -> int:
        """Tokens of the steps from `step` on; none behind the last."""
        return self._tokens - self._tokens_before(min(step, self._count))

    def _tokens_before(self, step: int) -> int:
        if not step:
            return 0
        epoch, place = divmod(step, self._epoch_steps)
        return epoch * self._epoch_tokens + (self._epoch(epoch)[1][place - 1] if place else 0)

    def _epoch(self, epoch: int) -> tuple[list[list[int]], list[int]]:
        """The batches of an epoch, and the tokens up to and with each of them."""
        if self._known is None or self._known[0] != epoch:
            batches = self._worked_out(epoch)
            tokens = accumulate(sum(self._lengths[row] for row in batch) for batch in batches)
            self._known = epoch, batches, list(tokens)
        return self._known[1:]

    def _worked_out(self, epoch: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(_mixed(self._seed, epoch))
        order = torch.randperm(len(self._lengths), generator=generator).tolist()
        window, size = self._batch_rows * _WINDOW_BATCHES, self._batch_rows
        sorted_rows = [
            row
            for begin in range(0, len(order), window)
            for row in sorted(order[begin : begin + window], key=lambda row: (self._lengths[row], row))
        ]
        batches = [sorted_rows[begin : begin + size] for begin in range(0, len(order), size)]
        shuffled = torch.randperm(len(batches), generator=generator).tolist()
        return [batches[index] for index in shuffled]


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
