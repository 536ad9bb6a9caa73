"""The CPU's LoRA arithmetic: rows grouped by slot, each group multiplied as matrices.

Once a step the token rows are cut into one group per slot; every wrapped linear layer
then adds ``x[rows] @ A[slot].T @ B[slot].T`` to the rows of that group and to nothing
else.  Invariant: a row of slot -1 (no adapter) belongs to no group, so no adapter's
weights can reach it, and a step without adapters costs one comparison a layer.

``applied_slots`` is read back from the very groups that multiply, which is what makes
the attestation (``attest``) a statement about the arithmetic and not about the request.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from vllm.lora.punica_wrapper.punica_base import PunicaWrapperBase
from vllm.platforms.cpu import CpuPlatform

if TYPE_CHECKING:
    from vllm.lora.layers import LoRAMapping

NO_SLOT = -1
LINEAR_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_QUALNAME = "services.generator.plugin.punica.GroupedPunicaWrapper"


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


class GroupedPunicaWrapper(PunicaWrapperBase):
    """vLLM's per-step LoRA bookkeeping, kept as row groups.

    Only linear layers are adapted: an engine whose ``lora_target_modules`` would wrap
    the embedding or the output head is refused at construction.
    """

    def __init__(
        self, max_num_batched_tokens: int, max_batches: int, device: torch.device | str, **kwargs: Any
    ) -> None:
        super().__init__(max_num_batched_tokens, max_batches, device)
        wrapped = kwargs["lora_config"].target_modules
        if not wrapped or not set(wrapped) <= set(LINEAR_MODULES):
            raise ValueError(f"lora_target_modules must be given and within {LINEAR_MODULES}, found {wrapped}")
        self.groups: tuple[RowGroup, ...] = ()

    def select_base(self) -> None:
        """State that no row of the next forward pass has an adapter."""
        self.groups = ()
        self.no_lora = True

    def applied_slots(self, tokens: int) -> npt.NDArray[np.int64]:
        """Slot that multiplies each of the step's first ``tokens`` rows, [tokens]."""
        applied = np.full(tokens, NO_SLOT, dtype=np.int64)
        for group in self.groups:
            rows = slice(group.start, group.stop) if group.rows is None else group.rows.numpy()
            applied[rows] = group.slot
        return applied

    def update_metadata(
        self,
        mapping: LoRAMapping,
        lora_index_to_id: list[int | None],
        max_loras: int,
        vocab_size: int,
        **kwargs: Any,
    ) -> None:
        """Regroup the rows for the coming step; nothing is padded and nothing aliased."""
        self.groups = group_rows(slots_of_rows(tuple(mapping.index_mapping), lora_index_to_id))
        self.no_lora = not self.groups
        self.is_prefill = bool(mapping.is_prefill)

    def add_lora_linear(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_a_stacked: tuple[torch.Tensor, ...],
        lora_b_stacked: tuple[torch.Tensor, ...],
        scale: float,
        output_slices: tuple[int, ...],
        *,
        buffer: tuple[torch.Tensor, ...] | None = None,
        **kwargs: Any,
    ) -> None:
        """Adapt a linear layer's output in place; shapes as in ``add_grouped``."""
        if self.groups:
            add_grouped(y, x, lora_a_stacked, lora_b_stacked, scale, output_slices, self.groups)

    def _refused(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("the generator adapts linear layers only")

    add_shrink = _refused
    add_expand = _refused
    add_lora_embedding = _refused
    add_lora_logits = _refused
    apply_lora_full_linear = _refused


def install() -> None:
    """Make the CPU platform build GroupedPunicaWrapper."""
    CpuPlatform.get_punica_wrapper = classmethod(lambda cls: _QUALNAME)
