"""What the service can do, put together once: engine, slots, files, tokenizer, supervisor, watcher.

Invariant: a caller sees and changes only adapters of its own tenant; the role service
sees all, because it acts for the deployment.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from services.chassis import models, resources
from services.chassis.context import RequestContext, Role
from services.chassis.errors import Failure, Reason
from services.chassis.files import write_atomically
from services.chassis.runtime import Runtime
from services.generator.adapter_files import AdapterFiles, Downloads, Served
from services.generator.config import GeneratorSettings
from services.generator.constraint_judge import child_program
from services.generator.constraints import ConstraintCheck
from services.generator.engine import Engine, EngineFacts
from services.generator.engine_vllm import VllmEngine, VllmSettings
from services.generator.generation import Generation, Sources, Versions
from services.generator.meter import Meter
from services.generator.places import Limits, Slots
from services.generator.residency import Resident
from services.generator.supervision import EngineState, Supervisor, World
from services.generator.sweep import Bounds, Sweep
from services.generator.tokenizer import BaseTokenizer
from services.generator.verification import base_rules
from services.generator.watcher import Cursor, Registry, Watcher


@dataclass(frozen=True, slots=True)
class EngineView:
    """One engine as ListEngines tells it."""

    facts: EngineFacts
    state: EngineState
    started_at: datetime | None
    running: int
    waiting: int
    restarts: int


class RegistryPeer(Registry, Downloads, Protocol):
    """The registry under the service's identity: changes and bytes."""


ResidencyChange = tuple[list[Resident], list[Resident], bool]
"""Adapters that entered or changed, adapters that left, and whether the watch is now up to date."""


@dataclass(frozen=True, slots=True)
class Verbs:
    """The service's verbs over its leaves."""

    generation: Generation
    slots: Slots
    supervisor: Supervisor
    engine: Engine

    def engines(self) -> list[EngineView]:
        """Every engine of this process."""
        slots, supervisor = self.slots, self.supervisor
        return [
            EngineView(
                self.engine.facts,
                supervisor.state,
                supervisor.started_at,
                slots.running,
                slots.waiting,
                supervisor.restarts,
            )
        ]

    def adapters(self, caller: RequestContext) -> dict[str, Resident]:
        """What the caller may see of the slots, by version."""
        return {held.stored.version: held for held in self.slots.residents() if _sees(caller, held)}

    async def load(self, caller: RequestContext, version: str) -> Resident:
        """Load a version that the caller may read.  Raises as Generation.answer."""
        stored = await self.generation.stored(version)
        assert stored is not None
        return await self.slots.warm(caller.tenant_id, stored)

    async def unload(self, caller: RequestContext, version: str) -> None:
        """Unload once idle.  Raises ADAPTER_NOT_RESIDENT."""
        self._require_seen(caller, version)
        await self.slots.unload(version)

    def pin(self, caller: RequestContext, version: str, pinned: bool) -> Resident:
        """Protect from eviction, or end that.  Raises ADAPTER_NOT_RESIDENT, SLOTS_PROTECTED."""
        self._require_seen(caller, version)
        return self.slots.pin(version, pinned)

    async def residency_changes(self, caller: RequestContext) -> AsyncIterator[ResidencyChange]:
        """First the present state, then each change, as often as something changed.

        Changes that follow one another closely may come as one: what is told is always
        the newest state, so a slow reader holds nothing up.
        """
        told: dict[str, Resident] = {}
        caught_up = True
        while True:
            seen = self.adapters(caller)
            entered = [held for version, held in seen.items() if told.get(version) != held]
            left = [held for version, held in told.items() if version not in seen]
            changed = asyncio.ensure_future(self.slots.changed())
            try:
                # Registered before we yield, so that no change falls in between.
                await asyncio.sleep(0)
                yield entered, left, caught_up
                told, caught_up = seen, False
                await changed
            finally:
                changed.cancel()

    def _require_seen(self, caller: RequestContext, version: str) -> None:
        # Another tenant's adapter and one that is not here must look the same.
        if version not in self.adapters(caller):
            raise Failure(Reason.ADAPTER_NOT_RESIDENT, name=version)


def _sees(caller: RequestContext, held: Resident) -> bool:
    return caller.has(Role.SERVICE) or held.stored.tenant == caller.tenant_id


def generator_id(folder: Path, new_id: Callable[[], str]) -> str:
    """The id under which this generator reports, drawn once and stable over restarts.  Blocks."""
    path = folder / "generator_id"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, f"generator-{new_id()}".encode())
    return path.read_text("utf-8").strip()


@asynccontextmanager
async def open_verbs(
    runtime: Runtime, registry: Callable[[str], RegistryPeer], versions: Versions
) -> AsyncIterator[Verbs]:
    """Open the leaves and keep the engine alive and the registry followed while the block lasts."""
    settings = runtime.settings
    assert isinstance(settings, GeneratorSettings)
    runtime.health.set(False, "the base model is being prepared")
    base = await runtime.blocking(models.resolve, settings.base_model)
    peer = registry(await runtime.blocking(generator_id, settings.service_dir, runtime.new_id))
    engine = VllmEngine(_vllm_settings(settings, base))
    limits = Limits(settings.max_num_seqs, settings.max_waiting, settings.slot_patience_seconds)
    slots = Slots(engine, limits, runtime.clock.monotonic)
    tokenizer = await runtime.blocking(BaseTokenizer, base.path)
    served = Served(base.name, base.digest, tokenizer.template_digest)
    files, sweep = await _shelf(runtime, settings, peer, slots, served, base.path)
    sources = Sources(runtime.new_id, lambda: secrets.randbelow(1 << 31), runtime.clock.monotonic, runtime.blocking)
    world = World(runtime.health.set, runtime.clock.now, asyncio.sleep, runtime.log)
    supervisor = Supervisor(engine, slots, world)
    watcher = Watcher(
        peer,
        files,
        slots,
        Cursor(settings.service_dir / "watch.json"),
        runtime.log,
        heartbeat_seconds=settings.heartbeat_seconds,
        pause=asyncio.sleep,
        version_deleted=sweep.deleted,
    )
    constraints = ConstraintCheck(child_program(base.path))
    generation = Generation(
        engine,
        slots,
        files,
        versions,
        tokenizer,
        constraints,
        sources,
        Meter(runtime.metrics, settings.metrics_versions).observe,
    )
    tasks = [
        runtime.spawn(supervisor.run(), name="engine"),
        runtime.spawn(watcher.run(), name="watcher"),
        runtime.spawn(sweep.run(), name="sweep"),
    ]
    try:
        yield Verbs(generation, slots, supervisor, engine)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await constraints.close()


async def _shelf(
    runtime: Runtime, settings: GeneratorSettings, peer: RegistryPeer, slots: Slots, served: Served, base_folder: Path
) -> tuple[AdapterFiles, Sweep]:
    """The local files and what clears them up."""
    rules = await runtime.blocking(base_rules, base_folder, settings.max_lora_rank, settings.targets)
    fetched = asyncio.Event()
    files = AdapterFiles(settings.adapters_dir, peer, rules, served, fetched.set)
    await runtime.blocking(files.discard_remains)
    bounds = Bounds(int(settings.adapters_gib * (1 << 30)), settings.sweep_seconds)
    sweep = Sweep(peer, files, slots, runtime.log, bounds, lambda: runtime.clock.now().timestamp(), fetched)
    return files, sweep


def _vllm_settings(settings: GeneratorSettings, base: models.ResolvedModel) -> VllmSettings:
    share = resources.shares()[resources.Role.ENGINE]
    return VllmSettings(
        base_folder=base.path,
        base=base.name,
        base_digest=base.digest,
        slots=settings.max_loras,
        max_rank=settings.max_lora_rank,
        targets=settings.targets,
        context_tokens=settings.max_model_len,
        max_sequences=settings.max_num_seqs,
        kv_cache_bytes=int(settings.kv_cache_gib * (1 << 30)),
        dtype=settings.dtype,
        cpu_ids=settings.cpu_ids or ",".join(map(str, share.cpus[: share.threads])),
        variables={name: value for name, value in share.environment().items() if not name.startswith("VLLM_")},
    )
