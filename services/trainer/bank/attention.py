"""Attention over the rows of a pass, one sequence at a time.

Registered with transformers under one name; a model's layers call it in place of their own when a pass runs.
Invariant: a sequence is attended in a call of its own, whose shape is its own length.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface

from services.trainer.bank.passes import Pass

NAME = "trivium_per_sequence"


def register() -> None:
    """Make the name known to transformers.  Masks are then not built: what may be seen follows from the pass."""
    AttentionInterface.register(NAME, per_sequence_attention)


def per_sequence_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    running_pass: Pass,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention inside each sequence.

    query: [1, heads, rows, head]; key, value: [1, key heads, rows, head].  Returns [1, rows, heads, head].
    """
    shared = query.shape[1] != key.shape[1]
    outputs = []
    for first, last in zip(running_pass.bounds, running_pass.bounds[1:], strict=False):
        # Copies, so that no alignment depends on the rows before; the kernel would read strided rows otherwise.
        parts = [tensor[:, :, first:last].contiguous() for tensor in (query, key, value)]
        mask = _window(last - first, sliding_window)
        attended = functional.scaled_dot_product_attention(
            *parts, attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=shared
        )
        outputs.append(attended.transpose(1, 2))
    return torch.cat(outputs, dim=1), None


def _window(length: int, window: int | None) -> Tensor | None:
    """Which earlier tokens are seen, bool [length, length], where the window is shorter than the sequence."""
    if window is None or length <= window:
        return None
    back = torch.arange(length)[:, None] - torch.arange(length)[None, :]
    return (back >= 0) & (back < window)
