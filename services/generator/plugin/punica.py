"""The CPU's LoRA arithmetic: rows planned by slot once a step, multiplied as matrices in every layer.

Every wrapped linear layer adds ``x[rows] @ A[slot].T @ B[slot].T`` to the rows of a slot and to nothing
else (``layers`` in machine code; here in torch, for what that does not fit).  Invariant: a row of slot -1
(no adapter) is in no plan, so no adapter's weights can reach it, and a step without adapters costs one
comparison a layer.

``applied_slots`` is read back from the very plan that multiplies, which is what makes
the attestation (``attest``) a statement about the arithmetic and not about the request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from vllm.lora.punica_wrapper.punica_base import PunicaWrapperBase
from vllm.platforms.cpu import CpuPlatform

from services.generator.plugin.rows import RowPlan, add_grouped, applied_slots, planned, slots_of_rows

if TYPE_CHECKING:
    from vllm.lora.layers import LoRAMapping

LINEAR_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_QUALNAME = "services.generator.plugin.punica.GroupedPunicaWrapper"


class GroupedPunicaWrapper(PunicaWrapperBase):
    """vLLM's per-step LoRA bookkeeping, kept as a plan of rows.

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
        self.plan: RowPlan | None = None

    def select_base(self) -> None:
        """State that no row of the next forward pass has an adapter."""
        self.plan = None
        self.no_lora = True

    def applied_slots(self, tokens: int) -> npt.NDArray[np.int64]:
        """Slot that multiplies each of the step's first ``tokens`` rows, [tokens]."""
        return applied_slots(self.plan, tokens)

    def update_metadata(
        self,
        mapping: LoRAMapping,
        lora_index_to_id: list[int | None],
        max_loras: int,
        vocab_size: int,
        **kwargs: Any,
    ) -> None:
        """Plan the rows of the coming step; nothing is padded and nothing aliased."""
        self.plan = planned(slots_of_rows(tuple(mapping.index_mapping), lora_index_to_id))
        self.no_lora = self.plan is None
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
        if self.plan is not None:
            add_grouped(y, x, lora_a_stacked, lora_b_stacked, scale, output_slices, self.plan)

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
