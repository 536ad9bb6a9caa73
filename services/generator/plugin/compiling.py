"""Compilation beside adapters on a CPU, where vLLM gives it up for every engine that has slots.

What adapters add to a layer's output is one opaque call in the compiled graph: a single graph serves every mix of
adapters, so a base row goes through the same lines whoever is in its batch.  Invariant: nothing that changes from step
to step (the plan, what a slot holds) is read while the graph is made; all of it is read within the call.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.library import Library

Add = Callable[[torch.Tensor, torch.Tensor], None]
"""Adds to a layer's output y, in place, what the step's adapters make of its input x."""

_ADDS: list[Add] = []
# An operator lives as long as the library that it was defined in.
_LIBRARY = Library("trivium", "FRAGMENT")


def numbered(add: Add) -> int:
    """The number by which a graph names ``add``.  It is part of the graph: layers are numbered in the model's order."""
    _ADDS.append(add)
    return len(_ADDS) - 1


def call(y: torch.Tensor, x: torch.Tensor, number: int) -> None:
    """Put the call of an ``Add`` into the graph that is being made."""
    torch.ops.trivium.adapt(y, x, number)


def _adapt(y: torch.Tensor, x: torch.Tensor, number: int) -> None:
    _ADDS[number](y, x)


def _checking(original: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    """The check of a configuration, in which vLLM takes compilation from one that it sees to have adapters."""

    @functools.wraps(original)
    def check_and_update_config(cls: Any, vllm_config: Any) -> None:
        adapters, vllm_config.lora_config = vllm_config.lora_config, None
        try:
            original(cls, vllm_config)
        finally:
            vllm_config.lora_config = adapters

    return check_and_update_config


def install_in_frontend() -> None:
    """Let a configuration without ``enforce_eager`` stay compiled; engines get it as the serving process made it."""
    from vllm.platforms.cpu import CpuPlatform

    if getattr(CpuPlatform, "trivium_compiles", False):
        return
    CpuPlatform.trivium_compiles = True
    CpuPlatform.check_and_update_config = classmethod(_checking(CpuPlatform.check_and_update_config.__func__))


def install() -> None:
    """Define the operator, and take from the sampler what it would compile at the first request for log probabilities.

    That compilation stops every request of the engine for seconds.  On a GPU vLLM compiles as it does by itself.
    """
    from vllm.platforms import current_platform
    from vllm.v1.sample import sampler

    if not current_platform.is_cpu() or hasattr(torch.ops.trivium, "adapt"):
        return
    _LIBRARY.define("adapt(Tensor(a!) y, Tensor x, int number) -> ()")
    _LIBRARY.impl("adapt", _adapt, "CPU")
    _LIBRARY._register_fake("adapt", lambda y, x, number: None)
    sampler.batched_count_greater_than = torch.compiler.disable(sampler.batched_count_greater_than)
