"""The generator put together once: engines and their pool, files, watcher, sweep.

Invariant: only the default base's engine decides whether the service is ready; what
becomes of the others is told of each engine alone.
"""

from __future__ import annotations

import asyncio
import contextvars
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from services.chassis import models, resources
from services.chassis.errors import Failure
from services.chassis.files import write_atomically
from services.chassis.full_models import FullModels
from services.chassis.runtime import Runtime
from services.generator.accounting import Accounting
from services.generator.adapter_files import AdapterFiles, Downloads
from services.generator.bases import Bases, Versions
from services.generator.config import GeneratorSettings
from services.generator.cursor import Cursor
from services.generator.departures import Departures
from services.generator.fleet import Fleet
from services.generator.generation import Generation, Sources
from services.generator.holdings import Shared
from services.generator.hosting import Hosting
from services.generator.hosts import Base
from services.generator.kept_models import KeptModels
from services.generator.meter import Meter
from services.generator.permissions import Permissions
from services.generator.pool import Pool, Spawn
from services.generator.pool_table import PoolLimits
from services.generator.priorities import Priorities
from services.generator.prompts import Prompts
from services.generator.protection import ProtectedList, Protection
from services.generator.shelf import Shelf
from services.generator.sweep import Bounds, Sweep
from services.generator.tallies import Tallies
from services.generator.templates import ChatTemplates
from services.generator.tier_meter import TierMeter
from services.generator.verbs import Verbs
from services.generator.watcher import Registry, Watcher

_GIB = 1 << 30


class RegistryPeer(Registry, Downloads, Protocol):
    """The registry under the service's identity: changes and bytes."""


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
    """Open the leaves, and keep engines alive and the registry followed while the block lasts."""
    settings = runtime.settings
    assert isinstance(settings, GeneratorSettings)
    runtime.health.set(False, "the base model is being prepared")
    peer = registry(await runtime.blocking(generator_id, settings.service_dir, runtime.new_id))
    pool = Pool(_limits(settings), runtime.clock.monotonic, _apart(runtime), runtime.log)
    model_settings = models.ModelSettings()
    cache = FullModels(model_settings.models_dir, max_bytes=model_settings.model_cache_bytes)
    meter, shelf = TierMeter(runtime.metrics), Shelf()
    listed = ProtectedList(settings.service_dir / "protected.json")
    await runtime.blocking(listed.begin)
    stalls = runtime.metrics.counter("generator_engine_stalls", "Engines that were killed because they hung.")
    shared = Shared(Priorities(listed), Tallies(meter.count), shelf.distrust, stalls.inc)
    hosting = Hosting(runtime, settings, pool.heard, shared)
    kept = KeptModels(settings.service_dir / "full_models")
    await runtime.blocking(kept.begin)
    bases = Bases(pool, cache, peer, hosting.open, runtime.blocking, kept)
    await _deploy(runtime, settings, hosting, bases)
    bases.preparing = bool(settings.bases)
    fetched = asyncio.Event()
    limit_bytes = int(settings.adapters_gib * _GIB)
    files = AdapterFiles(settings.adapters_dir, peer, bases.rules, fetched.set, shelf, shared.tallies, limit_bytes)
    await runtime.blocking(files.begin)
    permissions = Permissions(versions, files, kept, runtime.clock.monotonic, settings.cut_off_seconds)
    fleet = Fleet(pool, bases, files, permissions)
    protection = Protection(listed, fleet, pool, permissions, peer.as_service, runtime.log)
    departures = Departures(peer, pool, kept, runtime.log, settings.sweep_seconds)
    accounting = Accounting(shelf, limit_bytes, shared)
    meter.read(lambda: accounting.usage(fleet.tables(), None))
    sweep = _sweep(runtime, settings, peer, files, fleet, fetched, shared)
    watcher = Watcher(
        peer,
        fleet,
        fleet,
        Cursor(settings.service_dir / "watch.json"),
        runtime.log,
        heartbeat_seconds=settings.heartbeat_seconds,
        pause=asyncio.sleep,
        version_deleted=(sweep.deleted, departures.deleted),
        priorities=shared.priorities,
    )
    sources = Sources(runtime.new_id, lambda: secrets.randbelow(1 << 31), runtime.clock.monotonic, runtime.blocking)
    templates = ChatTemplates()
    prompts = Prompts(templates, runtime.blocking)
    generation = Generation(
        bases, pool, files, permissions, prompts, sources, Meter(runtime.metrics, settings.metrics_versions).observe
    )
    tasks = [
        runtime.spawn(pool.run(), name="pool"),
        runtime.spawn(_deploy_more(runtime, settings, hosting, bases), name="bases"),
        runtime.spawn(watcher.run(), name="watcher"),
        runtime.spawn(sweep.run(), name="sweep"),
        runtime.spawn(departures.run(), name="departures"),
        runtime.spawn(protection.run(), name="protection"),
    ]
    try:
        yield Verbs(generation, fleet, pool, accounting, protection, runtime.blocking)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await bases.close()
        await templates.close()


async def _deploy(runtime: Runtime, settings: GeneratorSettings, hosting: Hosting, bases: Bases) -> None:
    """Know the default base, whose engine starts at once.  Raises MODEL_SOURCE_INVALID, DISK_FULL."""
    found = await runtime.blocking(models.resolve, settings.base_model)
    base = Base(found.name, found.digest, found.path, always_on=True, public=True)
    bases.deploy(await runtime.blocking(hosting.open, base))


async def _deploy_more(runtime: Runtime, settings: GeneratorSettings, hosting: Hosting, bases: Bases) -> None:
    """Know the deployment's other bases, each on demand; one that cannot be prepared is nothing to the rest."""
    for uri in filter(None, map(str.strip, settings.bases.split(","))):
        try:
            found = await runtime.blocking(models.resolve, uri)
            host = await runtime.blocking(hosting.open, Base(found.name, found.digest, found.path, public=True))
        except Failure as failure:
            runtime.log.error("base_not_served", uri=uri, reason=failure.sentence)
        except (OSError, ValueError) as error:
            runtime.log.error("base_not_served", uri=uri, reason=str(error))
        else:
            bases.deploy(host)
    bases.preparing = False


def _apart(runtime: Runtime) -> Spawn:
    """Begin an engine's life outside of the request that needs it: the engine is nobody's, and outlives the call."""
    return lambda work: contextvars.Context().run(runtime.spawn, work, "engine")


def _limits(settings: GeneratorSettings) -> PoolLimits:
    share = resources.shares()[resources.Role.ENGINE]
    return PoolLimits(
        budget_bytes=int(settings.engines_gib * _GIB) or share.memory_bytes,
        max_engines=settings.max_engines,
        idle_seconds=settings.engine_idle_seconds,
        turn_seconds=settings.engine_turn_seconds,
        patience_seconds=settings.engine_patience_seconds,
        max_waiting=settings.max_waiting,
    )


def _sweep(
    runtime: Runtime,
    settings: GeneratorSettings,
    peer: RegistryPeer,
    files: AdapterFiles,
    fleet: Fleet,
    fetched: asyncio.Event,
    shared: Shared,
) -> Sweep:
    """What clears the local files of adapters up."""
    bounds = Bounds(int(settings.adapters_gib * _GIB), settings.sweep_seconds)
    return Sweep(peer, files, fleet, runtime.log, bounds, lambda: runtime.clock.now().timestamp(), fetched, shared)
