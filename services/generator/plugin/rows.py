"""Which rows a slot multiplies, and the multiplication in torch: plain arithmetic, apart from vLLM.

Invariant: a row of NO_SLOT belongs to no block, and nothing that takes a plan touches a row that belongs to
no block.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

NO_SLOT = -1
# As many rows as the native product takes at once: a slot's matrices are read once for all of them.
BLOCK_ROWS = 8


@dataclass(frozen=True)
class RowPlan:
    """The adapted rows of one step, slot by slot.

    order: int32 [rows], each row once, those of a slot beside each other and ascending;
    blocks: int32 [blocks, 3], (slot, first, last + 1) into ``order``, at most BLOCK_ROWS each.
    """

    order: npt.NDArray[np.int32]
    blocks: npt.NDArray[np.int32]

    @functools.cached_property
    def addresses(self) -> tuple[int, int, int]:
        """Of ``order`` and of ``blocks``, and how many blocks: looked up once for all layers of the step."""
        return self.order.ctypes.data, self.blocks.ctypes.data, len(self.blocks)

    def groups(self) -> Iterator[tuple[int, torch.Tensor]]:
        """Each slot in use and all its rows, int64 [rows]."""
        for slot in np.unique(self.blocks[:, 0]).tolist():
            mine = self.blocks[self.blocks[:, 0] == slot]
            yield slot, torch.from_numpy(self.order[mine[0, 1] : mine[-1, 2]].astype(np.int64))


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


def planned(slots: npt.NDArray[np.int64]) -> RowPlan | None:
    """The plan of a step whose rows have these slots, [rows]; None when no row has one."""
    adapted = np.flatnonzero(slots != NO_SLOT)
    if not adapted.size:
        return None
    order = adapted[np.argsort(slots[adapted], kind="stable")]
    found, starts = np.unique(slots[order], return_index=True)
    ends = np.append(starts[1:], order.size)
    blocks = [
        (slot, first, min(first + BLOCK_ROWS, end))
        for slot, start, end in zip(found.tolist(), starts.tolist(), ends.tolist(), strict=True)
        for first in range(start, end, BLOCK_ROWS)
    ]
    return RowPlan(order.astype(np.int32), np.array(blocks, dtype=np.int32))


def add_grouped(
    y: torch.Tensor,
    x: torch.Tensor,
    lora_a: tuple[torch.Tensor, ...],
    lora_b: tuple[torch.Tensor, ...],
    scale: float,
    output_slices: tuple[int, ...],
    plan: RowPlan,
) -> None:
    """Add each slot's low-rank product to its rows of ``y`` in place.

    y: [tokens, out]; x: [tokens, in]; lora_a[i]: [slots, 1, rank, in];
    lora_b[i]: [slots, 1, out_i, rank]; output_slices sum to at most out.
    """
    for slot, rows in plan.groups():
        inputs = x.index_select(0, rows)
        offset = 0
        for a_stacked, b_stacked, width in zip(lora_a, lora_b, output_slices, strict=True):
            a, b = a_stacked[slot, 0], b_stacked[slot, 0]
            delta = torch.mm(torch.mm(inputs.to(a.dtype), a.t()), b.t())
            y[:, offset : offset + width].index_add_(0, rows, delta.to(y.dtype), alpha=scale)
            offset += width


def add_grouped_embedding(y: torch.Tensor, x: torch.Tensor, lora_b: torch.Tensor, plan: RowPlan) -> None:
    """Add each slot's second product to its rows of ``y`` in place.

    y: [tokens, hidden]; x: [tokens, rank], a row's part of A, read only where the row is planned;
    lora_b: [slots, 1, hidden, rank].
    """
    for slot, rows in plan.groups():
        b = lora_b[slot, 0]
        delta = torch.mm(x.index_select(0, rows).to(b.dtype), b.t())
        y.index_add_(0, rows, delta.to(y.dtype))


def rows_of_embedding(ids: torch.Tensor, lora_a: torch.Tensor, plan: RowPlan) -> torch.Tensor:
    """The rows of A that belong to tokens, [tokens, rank]; of a row that is not planned, zeros.

    ids: [tokens]; lora_a: [slots, vocabulary, rank].
    """
    found = lora_a.new_zeros(ids.shape[0], lora_a.shape[2])
    for slot, rows in plan.groups():
        found.index_copy_(0, rows, lora_a[slot].index_select(0, ids.index_select(0, rows)))
    return found


def applied_slots(plan: RowPlan | None, tokens: int) -> npt.NDArray[np.int64]:
    """Slot that multiplies each of the first ``tokens`` rows, read back from the blocks, [tokens]."""
    applied = np.full(tokens, NO_SLOT, dtype=np.int64)
    if plan is not None:
        for slot, first, last in plan.blocks.tolist():
            applied[plan.order[first:last]] = slot
    return applied


def slots_of_requests(applied: npt.NDArray[np.int64], scheduled_tokens: npt.NDArray[np.int32]) -> list[tuple[int, int]]:
    """Lowest and highest slot among each request's rows; equal when one slot served it.

    applied: [tokens] in request order; scheduled_tokens: [requests], each at least 1.
    """
    starts = np.concatenate(([0], np.cumsum(scheduled_tokens)[:-1])).astype(np.int64)
    lowest = np.minimum.reduceat(applied, starts).tolist()
    highest = np.maximum.reduceat(applied, starts).tolist()
    return list(zip(lowest, highest, strict=True))
