"""Settings of the generator, from ``TRIVIUM_GENERATOR_*`` and the shared variables."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from services.chassis.config import ServiceSettings, environment
from services.chassis.models import DEFAULT_BASE


class GeneratorSettings(ServiceSettings):
    """What the generator needs beyond what every service has."""

    service: ClassVar[str] = "generator"
    model_config = environment("generator")

    base_model: str = Field(default=DEFAULT_BASE, validation_alias="TRIVIUM_BASE_MODEL")
    # Adapters that can be resident, and in one batch, at once.
    max_loras: int = Field(default=4, ge=1, le=64)
    # Slots of one engine in which one tenant may protect its versions from eviction; 0 is half of them, at least one.
    # One slot of every engine stays for others in any case.
    max_protected_slots_per_tenant: int = Field(default=0, ge=0, le=64)
    # One of vLLM's steps: 8, 16, 32, 64, 128, 256, 320, 512.
    max_lora_rank: int = Field(default=16, ge=1, le=512)
    # Names of the modules that adapters may change, for instance q_proj,v_proj,lm_head; empty takes every linear layer
    # of attention and MLP.  Each costs memory in every slot, embed_tokens and lm_head the most.
    lora_targets: str = ""
    max_model_len: int = Field(default=2048, ge=16)
    max_num_seqs: int = Field(default=32, ge=1)
    kv_cache_gib: float = Field(default=1.0, gt=0)
    dtype: str = "bfloat16"
    # More bases of the deployment, by URI (wheel:, file:, hf:) with commas between: each on an engine that is started
    # when it is wanted.
    bases: str = ""
    # What all engines together may take by estimate, the default one included; 0 takes the engines' share of this
    # machine.  A full model that does not fit beside the default base's engine is refused.
    engines_gib: float = Field(default=0.0, ge=0)
    # Engines that may run at once, the default one included.
    max_engines: int = Field(default=4, ge=1, le=64)
    # An engine that nobody used for so long is stopped.
    engine_idle_seconds: float = Field(default=300.0, gt=0)
    # How long an engine serves at least before a tenant that has fewer may claim its room.
    engine_turn_seconds: float = Field(default=60.0, ge=0)
    # How long a request waits for room while every engine is in use; then it is told to retry.
    engine_patience_seconds: float = Field(default=30.0, ge=0)
    # An engine that is asked for something and of which nothing is heard for so long, not even that it goes from one
    # step to the next, hangs: it is killed and rebuilt.  Longer than the longest step, a prefill of 2048 tokens at
    # once; 0 never.
    engine_stall_seconds: float = Field(default=120.0, ge=0)
    # Of every engine but the default one: slots for adapters (0 for none), and its KV cache.
    engine_slots: int = Field(default=2, ge=0, le=64)
    engine_kv_cache_gib: float = Field(default=0.5, gt=0)
    # For engines on GPUs, passed through as vLLM takes them (none of them is run by the tests, which have no GPU).
    # Weights as fp8, awq, gptq, …; empty takes what the model's config.json says.
    quantization: str = ""
    # auto, fp8, fp8_e4m3, …
    kv_cache_dtype: str = "auto"
    tensor_parallel_size: int = Field(default=1, ge=1, le=64)
    pipeline_parallel_size: int = Field(default=1, ge=1, le=64)
    # Part of each GPU's memory that an engine takes; 0 lets kv_cache_gib say how large the KV cache is.
    gpu_memory_utilization: float = Field(default=0.0, ge=0, le=1)
    # False lets vLLM compile the model (and capture CUDA graphs on GPUs): faster steps after a first start of minutes.
    enforce_eager: bool = True
    # Requests that may wait for a place; the next one is told to retry.
    max_waiting: int = Field(default=256, ge=0)
    # How long a request waits for a slot before a busy version is asked to make room.
    slot_patience_seconds: float = Field(default=0.25, ge=0)
    # Processors of the engine's threads, as vLLM writes them (0-3); empty takes this machine's share.
    cpu_ids: str = ""
    # How long the registry's yes to a tenant for a version is believed.
    version_cache_seconds: float = Field(default=10.0, ge=0, le=60)
    # How long after the registry last answered its versions are served from what was kept of them; a deletion is not
    # heard meanwhile.
    cut_off_seconds: float = Field(default=7 * 86400.0, ge=0)
    # Adapters that no slot holds but host memory does, for each engine; 0 keeps none.
    adapter_memory_gib: float = Field(default=0.5, ge=0)
    # Most of the local files of adapters; the longest unused go first, and are fetched again when wanted.
    adapters_gib: float = Field(default=16.0, gt=0)
    # How often every local file's version is asked for; deletions that the registry tells of are seen at once.
    sweep_seconds: float = Field(default=3600.0, gt=0)
    heartbeat_seconds: float = Field(default=10.0, gt=0)
    # Versions that have metrics of their own, the busiest; all others count as one.
    metrics_versions: int = Field(default=32, ge=1, le=1000)

    @property
    def targets(self) -> tuple[str, ...]:
        """The names in ``lora_targets``."""
        return tuple(name.strip() for name in self.lora_targets.split(",") if name.strip())

    def max_protected(self, slots: int) -> int:
        """In how many of an engine's slots one tenant may protect its versions."""
        return self.max_protected_slots_per_tenant or max(1, slots // 2)

    @property
    def adapter_memory_bytes(self) -> int:
        """``adapter_memory_gib`` in bytes."""
        return int(self.adapter_memory_gib * (1 << 30))

    @property
    def adapters_dir(self) -> Path:
        """Verified adapters, one folder a version."""
        return self.service_dir / "adapters"
