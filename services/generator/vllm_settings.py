"""How a vLLM engine is run: its settings, the environment that its processes read, and vLLM's own arguments."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.chassis.models import ModelSettings
from services.generator.lifeline import GENERATOR_PID, Lifeline
from services.generator.targets import chosen, module_shapes, names

if TYPE_CHECKING:
    from vllm.engine.arg_utils import AsyncEngineArgs

PLUGIN = "trivium_lora"
_COMPILED = ModelSettings().cache_dir / "compiled"


@dataclass(frozen=True, slots=True)
class VllmSettings:
    """How to run the engine; with ``slots`` 0 it serves the base alone.

    ``gpu_memory_utilization`` over 0 takes the place of ``kv_cache_bytes``, empty ``quantization`` what the model says.

    An engine of which nothing is heard for ``stall_seconds`` while something is asked of it is killed; 0 lets it be.

    ``plugins`` and ``prefix_caching`` are only ever changed to compare with what vLLM does without them.
    """

    base_folder: Path
    base: str
    base_digest: str
    slots: int = 4
    max_rank: int = 16
    # Names of modules; empty takes every linear one of the base.
    targets: tuple[str, ...] = ()
    context_tokens: int = 2048
    max_sequences: int = 32
    kv_cache_bytes: int = 1 << 30
    dtype: str = "bfloat16"
    cpu_ids: str = ""
    quantization: str = ""
    kv_cache_dtype: str = "auto"
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    gpu_memory_utilization: float = 0.0
    enforce_eager: bool = True
    plugins: str = PLUGIN
    prefix_caching: bool = True
    stall_seconds: float = 0.0
    variables: Mapping[str, str] = field(default_factory=dict)


def environment(settings: VllmSettings) -> dict[str, str]:
    """Variables that vLLM reads at import and in its children."""
    values = {
        **settings.variables,
        "VLLM_HOST_IP": "127.0.0.1",
        "VLLM_PLUGINS": settings.plugins,
        "VLLM_USE_V2_MODEL_RUNNER": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "WARNING"),
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        # An engine that runs eagerly compiles nothing at all, its sampler neither.
        "TORCH_COMPILE_DISABLE": "1" if settings.enforce_eager else "0",
        # What was compiled is run by whoever finds it: not in a folder that every user may write to.
        "TORCHINDUCTOR_CACHE_DIR": os.environ.get("TORCHINDUCTOR_CACHE_DIR", str(_COMPILED.expanduser().absolute())),
        GENERATOR_PID: str(os.getpid()),
    }
    if settings.cpu_ids:
        values["VLLM_CPU_OMP_THREADS_BIND"] = settings.cpu_ids
    return values


def arguments(settings: VllmSettings) -> AsyncEngineArgs:
    """The settings as vLLM takes them.  Blocks: imports vLLM and reads the base's files."""
    from vllm.config import StructuredOutputsConfig
    from vllm.engine.arg_utils import AsyncEngineArgs

    return AsyncEngineArgs(
        model=str(settings.base_folder),
        tokenizer=str(settings.base_folder),
        dtype=settings.dtype,
        max_model_len=settings.context_tokens,
        max_num_seqs=settings.max_sequences,
        kv_cache_dtype=settings.kv_cache_dtype,
        quantization=settings.quantization or None,
        tensor_parallel_size=settings.tensor_parallel_size,
        pipeline_parallel_size=settings.pipeline_parallel_size,
        enforce_eager=settings.enforce_eager,
        enable_prefix_caching=settings.prefix_caching,
        # By a request's priority, then by its arrival: among equals as without it.
        scheduling_policy="priority",
        # A small model that may choose white space writes nothing else until its tokens are used up.
        structured_outputs_config=StructuredOutputsConfig(backend="xgrammar", disable_any_whitespace=True),
        additional_config=Lifeline(),
        disable_log_stats=True,
        generation_config="vllm",
        **memory(settings),
        **(_adapters(settings) if settings.slots else {}),
    )


def _adapters(settings: VllmSettings) -> dict[str, Any]:
    return {
        "enable_lora": True,
        "max_loras": settings.slots,
        "max_cpu_loras": settings.slots,
        "max_lora_rank": settings.max_rank,
        "lora_target_modules": names(chosen(module_shapes(settings.base_folder), settings.targets)),
    }


def memory(settings: VllmSettings) -> dict[str, Any]:
    """How large the KV cache is: in bytes, or what is left of a part of the device's memory."""
    if settings.gpu_memory_utilization:
        return {"gpu_memory_utilization": settings.gpu_memory_utilization}
    return {"kv_cache_memory_bytes": settings.kv_cache_bytes}
