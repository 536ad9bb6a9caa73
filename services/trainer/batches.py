"""Which rows are trained on at which step, known before the first one.

Invariant: the plan depends on the rows' lengths, the settings and the seed, on nothing
else; so a resumed run needs a step number and no more to go on as if never stopped.
"""

from collections.abc import Sequence

import torch

# Rows are sorted by length inside windows of this many batches: little padding, yet every epoch mixes.
_WINDOW_BATCHES = 4


def plan(lengths: Sequence[int], *, batch_rows: int, epochs: int, seed: int, max_steps: int = 0) -> list[list[int]]:
    """Return the row indices of every optimizer step, in order; `max_steps` 0 means all."""
    steps: list[list[int]] = []
    for epoch in range(epochs):
        # Epochs that are never reached cost nothing: a worker plans where all its jobs wait for it.
        if max_steps and len(steps) >= max_steps:
            break
        generator = torch.Generator().manual_seed(_mixed(seed, epoch))
        order = torch.randperm(len(lengths), generator=generator).tolist()
        window = batch_rows * _WINDOW_BATCHES
        sorted_rows = [
            row
            for begin in range(0, len(order), window)
            for row in sorted(order[begin : begin + window], key=lambda row: (lengths[row], row))
        ]
        batches = [sorted_rows[begin : begin + batch_rows] for begin in range(0, len(order), batch_rows)]
        shuffled = torch.randperm(len(batches), generator=generator).tolist()
        steps.extend(batches[index] for index in shuffled)
    return steps[:max_steps] if max_steps else steps


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
