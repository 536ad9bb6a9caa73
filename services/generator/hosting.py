"""Makes a host of a base: reads its tokenizer and rules, and settles how its engine would run.

All engines share the processors of the engines' share (``chassis.resources``): an idle one
costs none, and a part for each would slow the busy ones down for its sake.  Each has a KV
cache and slots of its own.  Invariant: nothing here starts a process.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import partial

from services.chassis import resources
from services.chassis.errors import Failure, Reason
from services.chassis.foreign import translated
from services.chassis.runtime import Runtime
from services.generator.config import GeneratorSettings
from services.generator.constraint_judge import child_program
from services.generator.constraints import ConstraintCheck
from services.generator.engine_vllm import VllmEngine, VllmSettings
from services.generator.footprint import estimated_bytes
from services.generator.hosts import Base, Host
from services.generator.places import Limits, Shared, Slots
from services.generator.supervision import Supervisor, World
from services.generator.tokenizer import BaseTokenizer
from services.generator.verification import BaseRules, base_rules

# An engine that is started on demand and does not come up is tried once more.
_ATTEMPTS = 2


class Hosting:
    """Opens hosts under one deployment's settings; ``heard`` is told when an engine's state changes."""

    def __init__(
        self, runtime: Runtime, settings: GeneratorSettings, heard: Callable[[Host], None], shared: Shared
    ) -> None:
        self._shared = shared
        self._runtime = runtime
        self._settings = settings
        self._heard = heard

    def open(self, base: Base) -> Host:
        """The host of a base.  Blocks: reads the tokenizer and the configuration.  Raises WEIGHTS_REFUSED."""
        rules, slots = self._rules(base)
        settings = vllm_settings(self._settings, base, slots)
        name = "engine-0" if base.always_on else f"engine-{base.digest.removeprefix('sha256:')[:12]}"
        engine = VllmEngine(settings, name, partial(self._hung, name))
        limits = Limits(
            self._settings.max_num_seqs,
            self._settings.max_waiting,
            self._settings.slot_patience_seconds,
            self._settings.adapter_memory_bytes if slots else 0,
            self._settings.max_protected(slots),
        )
        places = Slots(engine, limits, self._runtime.clock.monotonic, self._shared)

        def serving(now: bool, why: str) -> None:
            self._heard(host)
            if base.always_on:
                self._runtime.health.set(now, why)

        world = World(serving, self._runtime.clock.now, asyncio.sleep, self._runtime.log)
        supervisor = Supervisor(engine, places, world, None if base.always_on else _ATTEMPTS)
        constraints = ConstraintCheck(child_program(base.folder))
        size_bytes = estimated_bytes(base.folder, rules, slots, settings.kv_cache_bytes) + limits.memory_bytes
        # What a tenant's tokenizer makes the library raise is the library's to choose.
        with translated(
            lambda error: Failure(Reason.WEIGHTS_REFUSED, problem=f"its tokenizer cannot be read: {error}")
        ):
            tokenizer = BaseTokenizer(base.folder)
        host = Host(base, tokenizer, rules, constraints, engine, places, supervisor, size_bytes)
        return host

    def _hung(self, engine: str, silent_seconds: float) -> None:
        self._runtime.log.error("engine_stalled", engine=engine, silent_seconds=round(silent_seconds, 1))
        self._shared.stalled()

    def _rules(self, base: Base) -> tuple[BaseRules, int]:
        """What its adapters must measure, and how many slots it has: none where its modules are not known."""
        settings = self._settings
        if base.always_on:
            return base_rules(base.folder, settings.max_lora_rank, settings.targets), settings.max_loras
        try:
            rules = base_rules(base.folder, settings.max_lora_rank, settings.targets)
        except (ValueError, LookupError, TypeError, AttributeError):
            # A tenant's files say what they like: of an engine that loads them all the same, nothing is adapted.
            rules = BaseRules({}, settings.max_lora_rank)
        if not settings.engine_slots:
            rules = BaseRules({}, settings.max_lora_rank)
        return rules, settings.engine_slots if rules.widths else 0


def vllm_settings(settings: GeneratorSettings, base: Base, slots: int) -> VllmSettings:
    """How the engine of a base runs.  Blocks: reads the base's configuration.  Raises WEIGHTS_REFUSED."""
    share = resources.shares()[resources.Role.ENGINE]
    kv_cache_gib = settings.kv_cache_gib if base.always_on else settings.engine_kv_cache_gib
    return VllmSettings(
        base_folder=base.folder,
        base=base.name,
        base_digest=base.digest,
        slots=slots,
        max_rank=settings.max_lora_rank,
        context_tokens=_context_tokens(settings, base),
        max_sequences=settings.max_num_seqs,
        kv_cache_bytes=int(kv_cache_gib * (1 << 30)),
        dtype=settings.dtype,
        targets=settings.targets,
        cpu_ids=settings.cpu_ids or ",".join(map(str, share.cpus[: share.threads])),
        quantization=settings.quantization,
        kv_cache_dtype=settings.kv_cache_dtype,
        tensor_parallel_size=settings.tensor_parallel_size,
        pipeline_parallel_size=settings.pipeline_parallel_size,
        gpu_memory_utilization=settings.gpu_memory_utilization,
        enforce_eager=settings.enforce_eager,
        stall_seconds=settings.engine_stall_seconds,
        variables={name: value for name, value in share.environment().items() if not name.startswith("VLLM_")},
    )


def _context_tokens(settings: GeneratorSettings, base: Base) -> int:
    """As the deployment says, or as many as the model was made for if those are fewer.  Raises WEIGHTS_REFUSED."""
    try:
        config = json.loads((base.folder / "config.json").read_text("utf-8"))
        return min(settings.max_model_len, int(config.get("max_position_embeddings") or settings.max_model_len))
    except (OSError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise Failure(
            Reason.WEIGHTS_REFUSED, problem="its config.json does not say how long a context may be"
        ) from error
