"""Which rows a slot multiplies, and the multiplication: plain arithmetic, apart from vLLM.

Invariant: a row of NO_SLOT belongs to no group, and ``add_grouped`` touches no row that
belongs to no group.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

NO_SLOT = -1


@dataclass(frozen=True, slots=True)
class RowGroup:
    """The rows of one step that one slot adapts: a run, or a list when they interleave."""

    slot: int
    start: int
    stop: int
    rows: torch.Tensor | None  # int64 [rows], None when the rows are start..stop


def slots_of_rows(row_adapter_ids: tuple[int, ...], slot_adapter_ids: list[int | None]) -> npt.NDArray[np.int64]:
    """Slot of each row, [rows]; ids below 1 mean no adapter.

    Raises KeyError for an adapter that occupies no slot: computing without it would
    answer with the base weights under the adapter's name.
    """
    ids = np.asarray(row_adapter_ids, dtype=np.int64)
    slot_of_id = {identifier: slot for slot, identifier in enumerate(slot_adapter_ids) if identifier is not None}
    slots = np.full(ids.shape, NO_SLOT, dtype=np.int64)
    for identifier in np.unique(ids[ids > 0]).tolist():
        slots[ids == identifier] = slot_of_id[identifier]
    return slots


def group_rows(slots: npt.NDArray[np.int64]) -> tuple[RowGroup, ...]:
    """One group per slot in use, ascending; rows of NO_SLOT are in none."""
    groups = []
    for slot in np.unique(slots[slots != NO_SLOT]).tolist():
        rows = np.flatnonzero(slots == slot)
        start, stop = int(rows[0]), int(rows[-1]) + 1
        contiguous = stop - start == rows.size
        groups.append(RowGroup(slot, start, stop, None if contiguous else torch.from_numpy(rows)))
    return tuple(groups)


def add_grouped(
    y: torch.Tensor,
    x: torch.Tensor,
    lora_a: tuple[torch.Tensor, ...],
    lora_b: tuple[torch.Tensor, ...],
    scale: float,
    output_slices: tuple[int, ...],
    groups: tuple[RowGroup, ...],
) -> None:
    """Add each group's low-rank product to its rows of ``y`` in place.

    y: [tokens, out]; x: [tokens, in]; lora_a[i]: [slots, 1, rank, in];
    lora_b[i]: [slots, 1, out_i, rank]; output_slices sum to at most out.
    """
    for group in groups:
        inputs = x[group.start : group.stop] if group.rows is None else x.index_select(0, group.rows)
        offset = 0
        for a_stacked, b_stacked, width in zip(lora_a, lora_b, output_slices, strict=True):
            a, b = a_stacked[group.slot, 0], b_stacked[group.slot, 0]
            low = torch.mm(inputs.to(a.dtype), a.t())
            target = y[:, offset : offset + width]
            if group.rows is None:
                delta = torch.mm(low, b.t())
                target[group.start : group.stop].add_(delta.to(y.dtype), alpha=scale)
            else:
                target.index_add_(0, group.rows, torch.mm(low, b.t()).to(y.dtype), alpha=scale)
            offset += width


def applied_slots(groups: tuple[RowGroup, ...], tokens: int) -> npt.NDArray[np.int64]:
    """Slot that multiplies each of the first ``tokens`` rows, read back from the groups, [tokens]."""
    applied = np.full(tokens, NO_SLOT, dtype=np.int64)
    for group in groups:
        rows = slice(group.start, group.stop) if group.rows is None else group.rows.numpy()
        applied[rows] = group.slot
    return applied


def slots_of_requests(applied: npt.NDArray[np.int64], scheduled_tokens: npt.NDArray[np.int32]) -> list[tuple[int, int]]:
    """Lowest and highest slot among each request's rows; equal when one slot served it.

    applied: [tokens] in request order; scheduled_tokens: [requests], each at least 1.
    """
    starts = np.concatenate(([0], np.cumsum(scheduled_tokens)[:-1])).astype(np.int64)
    lowest = np.minimum.reduceat(applied, starts).tolist()
    highest = np.maximum.reduceat(applied, starts).tolist()
    return list(zip(lowest, highest, strict=True))
