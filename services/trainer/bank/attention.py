"""Attention over the rows of a pass, one sequence at a time.

Registered with transformers under one name; a model's layers call it in place of their own when a pass runs.
Invariant: a sequence is attended by itself, in a way that follows from its own length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface

from services.trainer.bank.capped import capped_attention
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
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    running_pass: Pass,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention inside each sequence, its scores capped at `softcap` where one is given.

    query: [1, heads, rows, head]; key, value: [1, key heads, rows, head].  Returns [1, rows, heads, head].  Raises
    ValueError for sinks (`s_aux`), which are not computed.
    """
    if s_aux is not None:
        raise ValueError(f"{type(module).__name__} has attention sinks, which joint training does not compute")
    scale = scaling if scaling is not None else float(query.shape[-1]) ** -0.5
    how = _How(scale, sliding_window, softcap)
    output: Tensor = _Attention.apply(query, key, value, how, running_pass)
    return output, None


@dataclass(frozen=True, slots=True)
class _How:
    """How a layer attends."""

    scale: float
    window: int | None
    cap: float | None


class _Attention(torch.autograd.Function):
    """Short sequences in one native call, long ones in a call of torch's each; capped ones each by itself."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, how: _How, running: Pass) -> Tensor:
        query, key, value = (_with_dense_rows(tensor) for tensor in (query, key, value))
        heads, rows, size = query.shape[1:]
        output = query.new_empty(1, rows, heads, size)
        alone = list(range(len(running.bounds) - 1))
        if running.short is not None and how.cap is None:
            shape = running.short.shape(query, key, how.scale)
            if running.short.takes(shape, how.window):
                running.short.kernels.attend(shape, query, key, value, output)
                alone = running.short.others
        for each in alone:
            first, last = running.bounds[each : each + 2]
            parts = [tensor[:, :, first:last].clone() for tensor in (query, key, value)]
            output[:, first:last] = _attended(parts, how).transpose(1, 2)
        ctx.save_for_backward(query, key, value)
        ctx.how, ctx.running, ctx.alone = how, running, alone
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        query, key, value = ctx.saved_tensors
        gradient = gradient.contiguous()
        # [1, rows, heads, head], as the rows of the projections lie.
        of_query, of_key, of_value = (
            torch.empty(1, tensor.shape[2], tensor.shape[1], tensor.shape[3], dtype=tensor.dtype)
            for tensor in (query, key, value)
        )
        short = ctx.running.short
        if short is not None and ctx.alone is short.others:
            shape = short.shape(query, key, ctx.how.scale)
            short.kernels.attend_back(shape, (query, key, value), gradient, (of_query, of_key, of_value))
        for each in ctx.alone:
            first, last = ctx.running.bounds[each : each + 2]
            parts = [tensor[:, :, first:last].clone().requires_grad_() for tensor in (query, key, value)]
            with torch.enable_grad():
                output = _attended(parts, ctx.how)
            found = torch.autograd.grad(output, parts, gradient[:, first:last].transpose(1, 2).contiguous())
            for target, part in zip((of_query, of_key, of_value), found, strict=True):
                target[:, first:last] = part.transpose(1, 2)
        return of_query.transpose(1, 2), of_key.transpose(1, 2), of_value.transpose(1, 2), None, None


def _attended(parts: list[Tensor], how: _How) -> Tensor:
    """One sequence: query [1, heads, length, head], key and value [1, key heads, length, head]."""
    query, key, value = parts
    if how.cap is not None:
        return capped_attention(query, key, value, scale=how.scale, cap=how.cap, window=how.window)
    mask = _window(query.shape[2], how.window)
    return functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        is_causal=mask is None,
        scale=how.scale,
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
