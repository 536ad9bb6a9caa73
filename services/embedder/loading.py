"""From a setting to a model in memory behind its queue.

All models of one embedder are computed in one thread, one batch at a time: their share of
the machine is one share.  Invariant: a model that is handed out has passed its trial, or
the finding of an earlier trial on this very machine is remembered; one is loaded at a time.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from services.chassis import models
from services.chassis.errors import Failure, Reason
from services.chassis.executor import Executor
from services.chassis.runtime import Runtime
from services.embedder import cross_encoder, model, openvino_encoder, precision, probing
from services.embedder.batching import Batch, Batcher, Counters, Report, Vector
from services.embedder.config import Device, EmbedderSettings, EngineKind, ModelSetting, Precision
from services.embedder.embedding import EncodingModel, Prefixes
from services.embedder.model import EncoderFacts
from services.embedder.precision import Trial
from services.embedder.reranking import PairModel
from services.embedder.shelf import Place

# What a graphics card wants at once to be busy.
_DEVICE_BUDGET = 32_768
_PAIRS_BUDGET = 2048


class Computes(Protocol):
    """What a queue feeds."""

    facts: EncoderFacts
    pads: bool

    def compute(self, batch: Batch) -> Sequence[Vector]:
        """One array a sequence.  Blocks."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """An encoder as it will serve, its budget, and what its trial found if there was one."""

    encoder: model.Encoder
    batch_tokens: int
    trial: Trial | None


@dataclass(slots=True)
class Workshop:
    """Where models are loaded and computed: one thread, so many cores, one memory of what was found best."""

    runtime: Runtime
    settings: EmbedderSettings
    engine: Executor
    threads: int
    batchers: list[Batcher] = field(default_factory=list)
    # What the queues did that are no more.
    closed: Counters = field(default_factory=Counters)
    # Loading changes what is torch's alone: whoever loads has it.
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    # Tokens of a batch that were found best for the model that was loaded first, the default.
    budget: int = 0

    @property
    def pairs_budget(self) -> int:
        """Padded tokens of a batch of a cross-encoder."""
        return self.settings.batch_tokens or _PAIRS_BUDGET

    def encoder_place(self, setting: ModelSetting, report: Report) -> Place[EncodingModel]:
        """The place of an encoder."""

        async def describe() -> EncoderFacts:
            return await self._described(setting, model.described)

        async def load() -> tuple[EncoderFacts, EncodingModel]:
            resolved = await self.runtime.blocking(models.resolve, setting.uri)
            facts = await describe()
            async with self.turn:
                load = self.loader_of(resolved, facts)
                chosen = await self.engine.run(self.chosen, setting.precision, resolved, load)
            self.budget = self.budget or chosen.batch_tokens
            self.log(chosen.encoder.facts, chosen.batch_tokens, chosen.trial)
            tokenizer = await self.runtime.blocking(model.FastTokenizer, resolved.path)
            made = EncodingModel(
                facts=chosen.encoder.facts,
                tokenizer=tokenizer,
                batcher=self.queue(chosen.encoder, chosen.batch_tokens, report)[0],
                prefixes=Prefixes(setting.query_prefix, setting.document_prefix),
                shortens=setting.shortens,
            )
            return made.facts, made

        return Place(_called(setting), describe, load)

    def pairs_place(self, setting: ModelSetting, report: Report) -> Place[PairModel]:
        """The place of a cross-encoder."""

        async def describe() -> EncoderFacts:
            return await self._described(setting, cross_encoder.described)

        async def load() -> tuple[EncoderFacts, PairModel]:
            resolved = await self.runtime.blocking(models.resolve, setting.uri)
            facts = await describe()
            dtype = "float32" if setting.precision is Precision.AUTO else setting.precision.value
            async with self.turn:
                encoder = await self.engine.run(
                    cross_encoder.load, resolved, facts, dtype=dtype, threads=self.threads, device=self.device()
                )
            self.log(encoder.facts, self.pairs_budget, None)
            tokenizer = await self.runtime.blocking(cross_encoder.PairTokenizer, resolved.path)
            queue, _ = self.queue(encoder, self.pairs_budget, report)
            return encoder.facts, PairModel(encoder.facts, tokenizer, queue)

        return Place(_called(setting), describe, load)

    async def _described(self, setting: ModelSetting, read: Callable[..., EncoderFacts]) -> EncoderFacts:
        resolved = await self.runtime.blocking(models.resolve, setting.uri)
        return await self.runtime.blocking(read, resolved, name=setting.name, max_tokens=setting.max_tokens)

    def device(self) -> str:
        """Where torch computes.  Raises EMBEDDING_ENGINE_MISSING.  Blocks."""
        if self.settings.device is Device.CUDA:
            import torch

            if not torch.cuda.is_available():
                raise Failure(
                    Reason.EMBEDDING_ENGINE_MISSING,
                    engine="cuda",
                    problem="torch finds no GPU here. Set TRIVIUM_EMBEDDER_DEVICE=cpu, or run it where there is one",
                )
        return self.settings.device.value

    def loader_of(self, resolved: models.ResolvedModel, facts: EncoderFacts) -> precision.Loader:
        """What loads an encoder in an element type.  It blocks."""

        def load(dtype: str) -> model.Encoder:
            if self.settings.engine is EngineKind.OPENVINO:
                return openvino_encoder.load(resolved, facts, dtype=dtype, threads=self.threads)
            return model.load(resolved, dtype=dtype, threads=self.threads, facts=facts, device=self.device())

        return load

    def chosen(
        self,
        wanted: Precision,
        resolved: models.ResolvedModel,
        load: precision.Loader,
        *,
        beside: precision.Compare | None = None,
        budget: int = 0,
    ) -> Chosen:
        """Load, try out and remember; ``beside`` as in :func:`precision.choose`, a ``budget`` of 0 is tried out too.

        Blocks, in the engine's thread where neither is given.
        """
        if self.device() != Device.CPU:
            return self._on_device(wanted, load)
        # Beside the prepared models: what holds for this machine holds whatever the data folder.
        path = models.ModelSettings().models_dir / "findings.json"
        engine = (
            f"{self.settings.engine} {openvino_encoder.version()}" if self.settings.engine != EngineKind.TORCH else ""
        )
        on = probing.machine(resolved.digest, f"{engine or _torch()} {wanted}", self.threads)
        remembered = probing.recall(path, on)
        trial = None
        if remembered is not None:
            encoder = load(remembered.dtype)
        else:
            encoder, trial = precision.choose(wanted, load, precision.processor_has_bfloat16(), beside)
        given = self.settings.batch_tokens or budget
        known = given or (remembered.batch_tokens if remembered else 0)
        found = known or probing.fastest_budget(encoder, self.threads)
        if remembered is None or (not remembered.batch_tokens and not known):
            probing.remember(path, on, probing.Finding(encoder.facts.compute_dtype, 0 if given else found))
        return Chosen(encoder, found, trial)

    def _on_device(self, wanted: Precision, load: precision.Loader) -> Chosen:
        """A GPU computes in half precision unless told otherwise, in large batches."""
        import torch

        dtype = wanted.value
        if wanted is Precision.AUTO:
            dtype = "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
        return Chosen(load(dtype), self.settings.batch_tokens or _DEVICE_BUDGET, None)

    def queue(self, encoder: Computes, batch_tokens: int, report: Report) -> tuple[Batcher, Callable[[], None]]:
        """A queue before an encoder, and what ends it."""

        async def compute(batch: Batch) -> Sequence[Vector]:
            return await self.engine.run(encoder.compute, batch)

        batcher = Batcher(compute, batch_tokens, self.settings.queue_tokens, encoder.pads, report)
        self.batchers.append(batcher)
        running = self.runtime.spawn(batcher.run(), f"queue of {encoder.facts.name}")

        def close() -> None:
            running.cancel()
            self.batchers.remove(batcher)
            self.closed.add(batcher.counters)

        return batcher, close

    def log(self, facts: EncoderFacts, batch_tokens: int, trial: Trial | None) -> None:
        """Tell of a model in memory."""
        self.runtime.log.info(
            "model_loaded",
            model=facts.name,
            digest=facts.digest,
            dtype=facts.compute_dtype,
            threads=self.threads,
            batch_tokens=batch_tokens,
            trial_cosine=trial and round(trial.cosine, 6),
            trial_gain=trial and round(trial.gain, 2),
        )


def _torch() -> str:
    import torch

    return f"torch {torch.__version__}"


def _called(setting: ModelSetting) -> str:
    """What a model is called while only its address is known."""
    return setting.name or Path(setting.uri.partition(":")[2].partition("@")[0]).name.lower().replace("_", "-")
