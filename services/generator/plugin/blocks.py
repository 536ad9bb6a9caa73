"""Blocks of the KV cache are handed on empty.

Attention multiplies whole blocks, and of a block that is filled in part it weighs the rest with zero.  vLLM leaves there
what the last request wrote, and zero times what is no number is none: one request over weights that overflow makes every
request that is given its blocks answer nonsense, whosever that is.  vLLM can empty blocks when it allocates them, and does
so for models that need it; here all do.  On the CPU it would do so block by block and for full attention alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


def _empty(self: Any, block_ids: Sequence[int]) -> None:
    """Write zeros over blocks of every layer that keeps keys and values; layers may share their memory."""
    ids = torch.tensor(block_ids)
    done: set[int] = set()
    for group in self.kv_cache_config.kv_cache_groups:
        for name in group.layer_names:
            cache = getattr(self.compilation_config.static_forward_context.get(name), "kv_cache", None)
            if isinstance(cache, torch.Tensor) and cache.data_ptr() not in done:
                assert len(cache) == self.kv_cache_config.num_blocks, "its first dimension is no block's"
                done.add(cache.data_ptr())
                cache.index_fill_(0, ids, 0)


def install() -> None:
    """Have the scheduler tell of new blocks, and every worker empty them."""
    from vllm.platforms import current_platform
    from vllm.v1.kv_cache_interface import KVCacheConfig

    KVCacheConfig.needs_kv_cache_zeroing = property(lambda self: True)
    if current_platform.is_cpu():
        from vllm.v1.worker.cpu_model_runner import CPUModelRunner

        CPUModelRunner._zero_block_ids = _empty
        # The addresses are for a kernel that is not used here.
        CPUModelRunner._init_kv_zero_meta = lambda self: None
