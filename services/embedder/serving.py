"""Puts the embedder together: model, queue, health and figures.

Invariant: the service listens only once the model has passed its trial, and says
NOT_SERVING from a batch that failed until one that succeeds.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from services.chassis import models, resources
from services.chassis.executor import Executor
from services.chassis.runtime import Runtime
from services.embedder import model, precision
from services.embedder.batching import Batch, Batcher, Vector
from services.embedder.config import EmbedderSettings
from services.embedder.embedding import Embedder, Prefixes


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
        yield Embedder(
            facts=encoder.facts,
            tokenizer=tokenizer,
            batcher=batcher,
            blocking=runtime.blocking,
            prefixes=Prefixes(settings.query_prefix, settings.document_prefix),
            shortens=settings.shortens,
            stream_ahead=settings.stream_ahead,
        )
    finally:
        await asyncio.to_thread(engine.close)


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
    shown = {
        "trivium_embedder_waiting_tokens": ("Padded tokens in the queue.", lambda: batcher.waiting_tokens),
        "trivium_embedder_batches": ("Batches computed.", lambda: batcher.counters.batches),
        "trivium_embedder_tokens": ("Tokens computed, without padding.", lambda: batcher.counters.tokens),
        "trivium_embedder_padding_tokens": ("Padding computed.", lambda: batcher.counters.padding),
        "trivium_embedder_shared_texts": ("Texts answered by a twin's vector.", lambda: batcher.counters.shared),
        "trivium_embedder_dropped_texts": ("Texts whose caller had gone.", lambda: batcher.counters.dropped),
    }
    for name, (about, value) in shown.items():
        runtime.metrics.gauge(name, about).set_function(value)
