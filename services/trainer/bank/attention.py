"""Attention over the rows of a pass, one sequence at a time.

Registered with transformers under one name; a model's layers call it in place of their own when a pass runs.
Invariant: a sequence is attended by itself, in a way that follows from its own length.
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
    scale = scaling if scaling is not None else float(query.shape[-1]) ** -0.5
    output: Tensor = _Attention.apply(query, key, value, scale, sliding_window, running_pass)
    return output, None


class _Attention(torch.autograd.Function):
    """Short sequences in one native call, long ones in a call of torch's each."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None, running: Pass
    ) -> Tensor:
        query, key, value = (_with_dense_rows(tensor) for tensor in (query, key, value))
        heads, rows, size = query.shape[1:]
        output = query.new_empty(1, rows, heads, size)
        alone = list(range(len(running.bounds) - 1))
        if running.short is not None:
            shape = running.short.shape(query, key, scale)
            if running.short.takes(shape, window):
                running.short.kernels.attend(shape, query, key, value, output)
                alone = running.short.others
        for each in alone:
            first, last = running.bounds[each : each + 2]
            parts = [tensor[:, :, first:last].clone() for tensor in (query, key, value)]
            output[:, first:last] = _attended(parts, scale, window).transpose(1, 2)
        ctx.save_for_backward(query, key, value)
        ctx.scale, ctx.window, ctx.running, ctx.alone = scale, window, running, alone
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:
        query, key, value = ctx.saved_tensors
        gradient = gradient.contiguous()
        # [1, rows, heads, head], as the rows of the projections lie.
        of_query, of_key, of_value = (
            torch.empty(1, tensor.shape[2], tensor.shape[1], tensor.shape[3], dtype=tensor.dtype)
            for tensor in (query, key, value)
        )
        short = ctx.running.short
        if short is not None and ctx.alone is short.others:
            shape = short.shape(query, key, ctx.scale)
            short.kernels.attend_back(shape, (query, key, value), gradient, (of_query, of_key, of_value))
        for each in ctx.alone:
            first, last = ctx.running.bounds[each : each + 2]
            parts = [tensor[:, :, first:last].clone().requires_grad_() for tensor in (query, key, value)]
            with torch.enable_grad():
                output = _attended(parts, ctx.scale, ctx.window)
            found = torch.autograd.grad(output, parts, gradient[:, first:last].transpose(1, 2).contiguous())
            for target, part in zip((of_query, of_key, of_value), found, strict=True):
                target[:, first:last] = part.transpose(1, 2)
        return of_query.transpose(1, 2), of_key.transpose(1, 2), of_value.transpose(1, 2), None, None, None


def _attended(parts: list[Tensor], scale: float, window: int | None) -> Tensor:
    """One sequence: query [1, heads, length, head], key and value [1, key heads, length, head]."""
    query, key, value = parts
    mask = _window(query.shape[2], window)
    return functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        is_causal=mask is None,
        scale=scale,
        enable_gqa=query.shape[1] != key.shape[1],
    )


def _with_dense_rows(tensor: Tensor) -> Tensor:
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def _window(length: int, window: int | None) -> Tensor | None:
    """Which earlier tokens are seen, bool [length, length], where the window is shorter than the sequence."""
    if window is None or length <= window:
        return None
    back = torch.arange(length)[:, None] - torch.arange(length)[None, :]
    return (back >= 0) & (back < window)
