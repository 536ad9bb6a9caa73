"""Activations of a pass, in which every element goes through the same code wherever it lies.

Torch computes elementwise functions a whole vector at a time, and what is left over with other code, whose last bit may
differ (sigmoid, SiLU and GELU's tanh form do).  What is left over lies at the end of each thread's part, so where depends
on the number of elements and on the threads: on the company that a segment keeps.
Invariant: no element of a pass is left over.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.activations import ACT2CLS

# Elements of two vectors of the widest kind (bfloat16, AVX-512), which torch takes at once (ATen/native/cpu/Loops.h).
_AT_ONCE = 64
# From how many elements on a thread more takes part (at::internal::GRAIN_SIZE); GELU, larger than this, uses all of them
# (ATen/native/cpu/Activation.cpp).
_GRAIN = 32768
_GELU_GRAIN = 16384
_CLASSES = frozenset(known[0] if isinstance(known, tuple) else known for known in ACT2CLS.values())


def activations(base: nn.Module) -> list[nn.Module]:
    """The activation functions among the modules of `base`."""
    return [module for module in base.modules() if type(module) in _CLASSES]


def in_whole_vectors(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`function`, elementwise, of `x`, of any shape; autograd goes through whole vectors, too."""
    count = x.numel()
    filled = filled_elements(count, torch.get_num_threads())
    if filled == count:
        return function(x)
    found = function(functional.pad(x.reshape(-1), (0, filled - count)))
    return found[:count].view(x.shape)


def filled_elements(count: int, threads: int) -> int:
    """The least number from `count` on that divides into whole vectors for every number of threads that share it."""
    while (rest := count % _unit(count, threads)) != 0:
        count += _unit(count, threads) - rest
    return count


def _unit(count: int, threads: int) -> int:
    sharing = min(threads, max(1, math.ceil(count / _GRAIN)))
    return _AT_ONCE * math.lcm(sharing, threads if count > _GELU_GRAIN else 1)
