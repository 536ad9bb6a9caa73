"""Attention whose scores are capped (Gemma 2, arXiv:2408.00118, section 2), which fused attention does not compute.

Invariant: a sequence is attended in blocks that follow from its own length, and in fp32; what is held at once grows with
the length and not with its square.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

# Queries whose scores are held at once: of 256 over 4,096 keys and 8 heads they take 32 MiB.
_BLOCK_QUERIES = 256


def capped_attention(
    query: Tensor, key: Tensor, value: Tensor, *, scale: float, cap: float, window: int | None
) -> Tensor:
    """Causal attention of one sequence with scores cap tanh(scale q k / cap).

    query [1, heads, length, head], key and value [1, key heads, length, head]; returns the like of query.  Of scores no
    more than a block's are held for a backward pass: it computes them again.
    """
    blocks = []
    for first in range(0, query.shape[2], _BLOCK_QUERIES):
        last = min(first + _BLOCK_QUERIES, query.shape[2])
        attend = partial(_attended, first=first, scale=scale, cap=cap, window=window)
        parts = (query[:, :, first:last], key[:, :, :last], value[:, :, :last])
        if torch.is_grad_enabled():
            blocks.append(checkpoint(attend, *parts, use_reentrant=False, preserve_rng_state=False))
        else:
            blocks.append(attend(*parts))
    return torch.cat(blocks, dim=2)


def _attended(
    query: Tensor, key: Tensor, value: Tensor, *, first: int, scale: float, cap: float, window: int | None
) -> Tensor:
    """A block of queries, the first of which stands at `first`, over all keys up to its last."""
    _, heads, length, size = query.shape
    # [1, key heads, heads of each, length, head]: heads lie so that those of one key head are neighbours.
    grouped = query.float().reshape(1, key.shape[1], -1, length, size)
    key, value = (tensor.float()[:, :, None] for tensor in (key, value))
    scores = torch.tanh(grouped @ key.transpose(-1, -2) * (scale / cap)) * cap
    back = torch.arange(first, first + length)[:, None] - torch.arange(key.shape[3])[None, :]
    seen = (back >= 0) & (back < (window or key.shape[3]))
    chances = functional.softmax(scores.masked_fill(~seen, -torch.inf), dim=-1)
    return (chances @ value).reshape(1, heads, length, size).to(query.dtype)
