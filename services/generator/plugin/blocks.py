"""Blocks of the KV cache are handed on empty.

Attention multiplies whole blocks, and of a block that is filled in part it weighs the rest with zero.  vLLM leaves there
what the last request wrote, and zero times what is no number is none: one request over weights that overflow makes every
request that is given its blocks answer nonsense, whosever that is.  vLLM can empty blocks when it allocates them, and does
so for models that need it; here all do.  It costs a quarter of a millisecond for each 128 tokens on the CPU.
"""

from __future__ import annotations


def install() -> None:
    """Have the scheduler tell of new blocks, and every worker empty them."""
    from vllm.platforms import current_platform
    from vllm.v1.kv_cache_interface import KVCacheConfig

    KVCacheConfig.needs_kv_cache_zeroing = property(lambda self: True)
    if current_platform.is_cpu():
        from vllm.v1.worker.cpu_model_runner import CPUModelRunner

        # It empties blocks one by one and needs no addresses for a kernel.
        CPUModelRunner._init_kv_zero_meta = lambda self: None
