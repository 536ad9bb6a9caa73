"""Puts the embedder together: models, cache, health and figures.

Invariant: the service listens only once the default model has passed its trial, and says
NOT_SERVING from a batch that failed until one that succeeds.
"""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.chassis import models, resources
from services.chassis.errors import Failure
from services.chassis.executor import Executor
from services.chassis.files import write_atomically
from services.chassis.full_models import FullModels
from services.chassis.runtime import Runtime
from services.embedder.batching import Counters
from services.embedder.cache import VectorCache
from services.embedder.cache_file import VectorFile
from services.embedder.config import EmbedderSettings
from services.embedder.embedding import Embedder
from services.embedder.listing import Models
from services.embedder.loading import Workshop
from services.embedder.own_loading import OwnLoading, describe
from services.embedder.own_models import NoOwnModels, OwnModels, Room
from services.embedder.own_versions import OwnVersions, Registry
from services.embedder.reranking import Reranker
from services.embedder.shelf import Shelf

# As many calls as a service takes at once, each with a few requests of a stream.
_CACHE_WAITING = 4096
_SECRET_BYTES = 32
_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Verbs:
    """What the service can do."""

    embedder: Embedder
    reranker: Reranker
    models: Models


@asynccontextmanager
async def opened(runtime: Runtime, settings: EmbedderSettings, registry: Registry | None) -> AsyncIterator[Verbs]:
    """The default model behind its queue, the others on call, and tenants' own out of the registry if there is one.

    Raises MODEL_SOURCE_INVALID, EMBEDDING_ENGINE_MISSING.
    """
    share = resources.shares()[resources.Role.EMBEDDER]
    # Read by OpenMP when torch is imported, which nobody has done yet.
    os.environ.update(share.environment())
    engine = Executor(1, name="embedder-engine")
    try:
        workshop = Workshop(runtime, settings, engine, settings.threads or share.threads)
        default = workshop.encoder_place(settings.default_model(), _follow(runtime))
        await default.ready()
        others = _complain_of_batches(runtime)
        encoders = Shelf((default, *(workshop.encoder_place(each, others) for each in settings.models)))
        pairs = Shelf(tuple(workshop.pairs_place(each, others) for each in settings.rerankers))
        runtime.spawn(_describe(encoders, pairs), "describe models")
        _publish(runtime, workshop)
        async with _opened_cache(runtime, settings) as cache, _own_models(workshop, registry) as own:
            yield Verbs(
                Embedder(encoders, cache, runtime.blocking, settings.stream_ahead, own),
                Reranker(encoders, pairs, runtime.blocking, own),
                Models(encoders, pairs, own),
            )
    finally:
        await asyncio.to_thread(engine.close)


@asynccontextmanager
async def _own_models(workshop: Workshop, registry: Registry | None) -> AsyncIterator[OwnModels | NoOwnModels]:
    """The models of tenants' own."""
    runtime, settings = workshop.runtime, workshop.settings
    if registry is None or not settings.tenant_models:
        variable = "REGISTRY_ADDRESS" if registry is None else "EMBEDDER_TENANT_MODELS"
        yield NoOwnModels(f"and tenants' own are not served here, by TRIVIUM_{variable}")
        return
    found = models.ModelSettings()
    cache = FullModels(found.models_dir, max_bytes=found.model_cache_bytes)
    loader = Executor(1, name="embedder-loader")
    loading = OwnLoading(workshop, registry, cache, loader, _complain_of_batches(runtime))
    monotonic = runtime.clock.monotonic
    versions = OwnVersions(registry, describe, settings.tenant_models_believed_seconds, monotonic)
    room = Room(settings.tenant_models, int(settings.tenant_models_gib * _GIB))
    own = OwnModels(versions, loading.load, room, monotonic)
    _show(runtime, {"tenant_models": ("Models of tenants' own in memory.", own.held)})
    try:
        yield own
    finally:
        await own.close()
        # Before the engine is, which what is being loaded may wait for.
        await asyncio.to_thread(loader.close)


async def _describe(*shelves: Shelf[Any]) -> None:
    """Come to know what is on call, so that it can be listed; a slow hub keeps nobody waiting."""
    for shelf in shelves:
        await shelf.describe()


@asynccontextmanager
async def _opened_cache(runtime: Runtime, settings: EmbedderSettings) -> AsyncIterator[VectorCache]:
    """What was computed before; written to the end when the service goes."""
    disk = Executor(1, name="embedder-cache", waiting=_CACHE_WAITING)
    secret = await runtime.blocking(cache_secret, settings.service_dir)
    file = None
    if settings.cache_bytes:
        path = settings.service_dir / "vectors.db"
        file = VectorFile(path, secret, settings.cache_bytes, report=_complain(runtime))
    cache = VectorCache(secret, file, disk.run)
    _publish_cache(runtime, cache)
    try:
        if file is not None:
            await disk.run(file.open)
            runtime.spawn(cache.run(), "cache")
        yield cache
        await cache.flush()
    finally:
        await asyncio.to_thread(disk.close)
        if file is not None:
            file.close()


def cache_secret(folder: Path) -> bytes:
    """The secret of this deployment's cache, made on the first start.  Where it cannot be kept, one for this run."""
    path = folder / "cache.key"
    with suppress(OSError):
        if len(found := path.read_bytes()) == _SECRET_BYTES:
            return found
    made = secrets.token_bytes(_SECRET_BYTES)
    with suppress(OSError, Failure):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, made, mode=0o600)
    return made


def _complain(runtime: Runtime) -> Callable[[str], None]:
    def report(problem: str) -> None:
        runtime.log.warning("vector_cache_impaired", problem=problem)

    return report


def _follow(runtime: Runtime) -> Callable[[BaseException | None], None]:
    """What makes the health follow the model."""
    failing = False

    def report(error: BaseException | None) -> None:
        nonlocal failing
        if (error is not None) != failing:
            failing = error is not None
            runtime.log.error("batch_failed", exc_info=error) if failing else runtime.log.info("batch_recovered")
            runtime.health.set(not failing, "the model failed on its last batch" if failing else "")

    return report


def _complain_of_batches(runtime: Runtime) -> Callable[[BaseException | None], None]:
    """A model on call that fails is told of in the log; the service's health is that of the default."""

    def report(error: BaseException | None) -> None:
        if error is not None:
            runtime.log.error("batch_failed", exc_info=error)

    return report


def _publish(runtime: Runtime, workshop: Workshop) -> None:
    """Show the queues' counters to whoever scrapes, over all models, also those that are no longer in memory."""

    def waiting() -> int:
        return sum(batcher.waiting_tokens for batcher in workshop.batchers)

    def total(count: Callable[[Counters], int]) -> Callable[[], int]:
        return lambda: count(workshop.closed) + sum(count(batcher.counters) for batcher in workshop.batchers)

    _show(
        runtime,
        {
            "waiting_tokens": ("Tokens in the queues, with padding where a model pads.", waiting),
            "batches": ("Batches computed.", total(lambda it: it.batches)),
            "tokens": ("Tokens computed, without padding.", total(lambda it: it.tokens)),
            "padding_tokens": ("Padding computed.", total(lambda it: it.padding)),
            "shared_texts": ("Texts answered by a twin's vector.", total(lambda it: it.shared)),
            "dropped_texts": ("Texts whose caller had gone.", total(lambda it: it.dropped)),
        },
    )


def _publish_cache(runtime: Runtime, cache: VectorCache) -> None:
    """Show what the cache is worth, and what became of its file."""
    _show(
        runtime,
        {
            "cache_hits": ("Texts whose vector was kept.", lambda: cache.counters.hits),
            "cache_misses": ("Texts whose vector was not kept.", lambda: cache.counters.misses),
            "cache_waiting": ("Vectors that are not on disk yet.", lambda: cache.waiting),
            "cache_unwritten": ("Vectors that the disk was too slow for.", lambda: cache.counters.unwritten),
        },
    )
    if (file := cache.file) is not None:
        _show(
            runtime,
            {
                "cache_bytes": ("What the kept vectors take on disk.", lambda: file.counters.bytes),
                "cache_evicted": ("Vectors that made room for others.", lambda: file.counters.evicted),
                "cache_errors": ("Times that the disk refused the cache.", lambda: file.counters.errors),
                "cache_discarded": ("Times that a damaged cache was thrown away.", lambda: file.counters.discarded),
            },
        )


def _show(runtime: Runtime, shown: Mapping[str, tuple[str, Callable[[], int]]]) -> None:
    for name, (about, value) in shown.items():
        runtime.metrics.gauge(f"trivium_embedder_{name}", about).set_function(value)
