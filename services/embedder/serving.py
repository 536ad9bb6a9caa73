"""Puts the embedder together: model, queue, cache, health and figures.

Invariant: the service listens only once the model has passed its trial, and says
NOT_SERVING from a batch that failed until one that succeeds.
"""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from services.chassis import models, resources
from services.chassis.errors import Failure
from services.chassis.executor import Executor
from services.chassis.files import write_atomically
from services.chassis.runtime import Runtime
from services.embedder import model, precision
from services.embedder.batching import Batch, Batcher, Vector
from services.embedder.cache import VectorCache
from services.embedder.cache_file import VectorFile
from services.embedder.config import EmbedderSettings
from services.embedder.embedding import Embedder, Prefixes

# As many calls as a service takes at once, each with a few requests of a stream.
_CACHE_WAITING = 4096
_SECRET_BYTES = 32


@asynccontextmanager
async def opened(runtime: Runtime, settings: EmbedderSettings) -> AsyncIterator[Embedder]:
    """A loaded model behind its queue.  Raises MODEL_SOURCE_INVALID."""
    share = resources.shares()[resources.Role.EMBEDDER]
    # Read by OpenMP when torch is imported, which nobody has done yet.
    os.environ.update(share.environment())
    engine = Executor(1, name="embedder-torch")
    try:
        resolved = await runtime.blocking(models.resolve, settings.model)
        threads = settings.threads or share.threads
        encoder = await engine.run(_load, resolved, settings, threads, runtime)

        async def compute(batch: Batch) -> Sequence[Vector]:
            return await engine.run(encoder.compute, batch)

        batcher = Batcher(compute, settings.batch_tokens, settings.queue_tokens, report=_follow(runtime))
        _publish(runtime, batcher)
        tokenizer = await runtime.blocking(model.FastTokenizer, resolved.path)
        runtime.spawn(batcher.run(), "batcher")
        async with _opened_cache(runtime, settings) as cache:
            yield Embedder(
                facts=encoder.facts,
                tokenizer=tokenizer,
                batcher=batcher,
                cache=cache,
                blocking=runtime.blocking,
                prefixes=Prefixes(settings.query_prefix, settings.document_prefix),
                shortens=settings.shortens,
                stream_ahead=settings.stream_ahead,
            )
    finally:
        await asyncio.to_thread(engine.close)


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


def _load(resolved: models.ResolvedModel, settings: EmbedderSettings, threads: int, runtime: Runtime) -> model.Encoder:
    def load(dtype: str) -> model.Encoder:
        return model.load(resolved, dtype=dtype, threads=threads)

    encoder, trial = precision.choose(settings.precision, load, precision.processor_has_bfloat16())
    runtime.log.info(
        "model_loaded",
        model=encoder.facts.name,
        digest=encoder.facts.digest,
        dtype=encoder.facts.compute_dtype,
        threads=threads,
        trial_cosine=trial and round(trial.cosine, 6),
        trial_gain=trial and round(trial.gain, 2),
    )
    return encoder


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


def _publish(runtime: Runtime, batcher: Batcher) -> None:
    """Show the queue's counters to whoever scrapes."""
    _show(
        runtime,
        {
            "waiting_tokens": ("Padded tokens in the queue.", lambda: batcher.waiting_tokens),
            "batches": ("Batches computed.", lambda: batcher.counters.batches),
            "tokens": ("Tokens computed, without padding.", lambda: batcher.counters.tokens),
            "padding_tokens": ("Padding computed.", lambda: batcher.counters.padding),
            "shared_texts": ("Texts answered by a twin's vector.", lambda: batcher.counters.shared),
            "dropped_texts": ("Texts whose caller had gone.", lambda: batcher.counters.dropped),
        },
    )


def _publish_cache(runtime: Runtime, cache: VectorCache) -> None:
    """Show what the cache is worth, and what became of its file."""
    _show(
        runtime,
        {
            "cache_hits": ("Texts whose vector was kept.", lambda: cache.counters.hits),
            "cache_misses": ("Texts whose vector was not kept.", lambda: cache.counters.misses),
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
