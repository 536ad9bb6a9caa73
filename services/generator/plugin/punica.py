"""The CPU's LoRA arithmetic: rows planned by slot once a step, multiplied as matrices in every layer.

Every wrapped layer adds ``x[rows] @ A[slot].T @ B[slot].T`` to the rows of a slot and to nothing
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

from services.generator.plugin.rows import (
    RowPlan,
    add_grouped,
    add_grouped_embedding,
    applied_slots,
    planned,
    slots_of_rows,
)

if TYPE_CHECKING:
    from vllm.lora.layers import LoRAMapping

_QUALNAME = "services.generator.plugin.punica.GroupedPunicaWrapper"


class GroupedPunicaWrapper(PunicaWrapperBase):
    """vLLM's per-step LoRA bookkeeping, kept as two plans: of the step's rows, and of the rows that are sampled.

    An engine without ``lora_target_modules`` is refused at construction: it would wrap modules that no adapter of
    this deployment may change, and pay for them at every step.
    """

    def __init__(
        self, max_num_batched_tokens: int, max_batches: int, device: torch.device | str, **kwargs: Any
    ) -> None:
        super().__init__(max_num_batched_tokens, max_batches, device)
        if not kwargs["lora_config"].target_modules:
            raise ValueError("lora_target_modules must name the modules that adapters may change")
        self.plan: RowPlan | None = None
        self.sampled_plan: RowPlan | None = None
        self._sampled_rows = 0

    def select_base(self) -> None:
        """State that no row of the next forward pass has an adapter."""
        self.plan = self.sampled_plan = None
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
        self._sampled_rows = len(mapping.prompt_mapping)
        self.sampled_plan = planned(slots_of_rows(tuple(mapping.prompt_mapping), lora_index_to_id))
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

    def add_lora_embedding(
        self, y: torch.Tensor, x: torch.Tensor, lora_b_stacked: torch.Tensor, add_inputs: bool = True, **kwargs: Any
    ) -> None:
        """Adapt the embeddings of the step's rows in place; shapes as in ``add_grouped_embedding``."""
        if self.plan is not None:
            add_grouped_embedding(y, x, lora_b_stacked, self.plan)

    def add_lora_logits(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_a_stacked: torch.Tensor,
        lora_b_stacked: torch.Tensor,
        scale: float,
        **kwargs: Any,
    ) -> None:
        """Adapt the logits of the sampled rows in place: y [sampled, vocabulary], x [sampled, hidden].

        A: [slots, 1, rank, hidden]; B: [slots, 1, vocabulary, rank].  Raises ValueError for other rows than the
        sampled ones (as log probabilities of a prompt would be): whose they are is not known here.
        """
        if self.sampled_plan is None:
            return
        if y.shape[0] != self._sampled_rows:
            raise ValueError(f"logits of {y.shape[0]} rows, of which {self._sampled_rows} were to be sampled")
        add_grouped(y, x, (lora_a_stacked,), (lora_b_stacked,), scale, (y.shape[1],), self.sampled_plan)

    def _refused(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("the generator adapts linear layers, embeddings and logits, each by its own path")

    add_shrink = _refused
    add_expand = _refused
    apply_lora_full_linear = _refused


def install() -> None:
    """Make the CPU platform build GroupedPunicaWrapper."""
    CpuPlatform.get_punica_wrapper = classmethod(lambda cls: _QUALNAME)
