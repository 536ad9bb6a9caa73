"""From a setting to a model in memory behind its queue.

All models of one embedder are computed in one thread, one batch at a time: their share of
the machine is one share.  Invariant: a model that is handed out has passed its trial, or
the finding of an earlier trial on this very machine is remembered.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from services.chassis import models
from services.chassis.errors import Failure, Reason
from services.chassis.executor import Executor
from services.chassis.runtime import Runtime
from services.embedder import cross_encoder, model, openvino_encoder, precision, probing
from services.embedder.batching import Batch, Batcher, Report, Vector
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

    def encoder_place(self, setting: ModelSetting, report: Report) -> Place[EncodingModel]:
        """The place of an encoder."""

        async def describe() -> EncoderFacts:
            return await self._described(setting, model.described)

        async def load() -> tuple[EncoderFacts, EncodingModel]:
            resolved = await self.runtime.blocking(models.resolve, setting.uri)
            facts = await describe()
            chosen = await self.engine.run(self._chosen, setting, resolved, facts)
            self._log(chosen.encoder.facts, chosen.batch_tokens, chosen.trial)
            tokenizer = await self.runtime.blocking(model.FastTokenizer, resolved.path)
            made = EncodingModel(
                facts=chosen.encoder.facts,
                tokenizer=tokenizer,
                batcher=self._queue(chosen.encoder, chosen.batch_tokens, report),
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
            encoder = await self.engine.run(
                cross_encoder.load, resolved, facts, dtype=dtype, threads=self.threads, device=self._device()
            )
            budget = self.settings.batch_tokens or _PAIRS_BUDGET
            self._log(encoder.facts, budget, None)
            tokenizer = await self.runtime.blocking(cross_encoder.PairTokenizer, resolved.path)
            return encoder.facts, PairModel(encoder.facts, tokenizer, self._queue(encoder, budget, report))

        return Place(_called(setting), describe, load)

    async def _described(self, setting: ModelSetting, read: Callable[..., EncoderFacts]) -> EncoderFacts:
        resolved = await self.runtime.blocking(models.resolve, setting.uri)
        return await self.runtime.blocking(read, resolved, name=setting.name, max_tokens=setting.max_tokens)

    def _device(self) -> str:
        """Raises EMBEDDING_ENGINE_MISSING.  Blocks."""
        if self.settings.device is Device.CUDA:
            import torch

            if not torch.cuda.is_available():
                raise Failure(
                    Reason.EMBEDDING_ENGINE_MISSING,
                    engine="cuda",
                    problem="torch finds no GPU here. Set TRIVIUM_EMBEDDER_DEVICE=cpu, or run it where there is one",
                )
        return self.settings.device.value

    def _chosen(self, setting: ModelSetting, resolved: models.ResolvedModel, facts: EncoderFacts) -> Chosen:
        """Load, try out and remember.  Blocks, in the engine's thread."""
        device = self._device()

        def load(dtype: str) -> model.Encoder:
            if self.settings.engine is EngineKind.OPENVINO:
                return openvino_encoder.load(resolved, facts, dtype=dtype, threads=self.threads)
            return model.load(resolved, dtype=dtype, threads=self.threads, facts=facts, device=device)

        if device != Device.CPU:
            return self._on_device(setting, load)
        # Beside the prepared models: what holds for this machine holds whatever the data folder.
        path = models.ModelSettings().models_dir / "findings.json"
        engine = (
            f"{self.settings.engine} {openvino_encoder.version()}" if self.settings.engine != EngineKind.TORCH else ""
        )
        on = probing.machine(resolved.digest, f"{engine or _torch()} {setting.precision}", self.threads)
        remembered = probing.recall(path, on)
        trial = None
        if remembered is not None:
            encoder = load(remembered.dtype)
        else:
            encoder, trial = precision.choose(setting.precision, load, precision.processor_has_bfloat16())
        budget = self.settings.batch_tokens or (remembered.batch_tokens if remembered else 0)
        found = budget or probing.fastest_budget(encoder, self.threads)
        if remembered is None or (not remembered.batch_tokens and not budget):
            tried = 0 if self.settings.batch_tokens else found
            probing.remember(path, on, probing.Finding(encoder.facts.compute_dtype, tried))
        return Chosen(encoder, found, trial)

    def _on_device(self, setting: ModelSetting, load: Callable[[str], model.Encoder]) -> Chosen:
        """A GPU computes in half precision unless told otherwise, in large batches."""
        import torch

        dtype = setting.precision.value
        if setting.precision is Precision.AUTO:
            dtype = "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
        return Chosen(load(dtype), self.settings.batch_tokens or _DEVICE_BUDGET, None)

    def _queue(self, encoder: Computes, batch_tokens: int, report: Report) -> Batcher:
        async def compute(batch: Batch) -> Sequence[Vector]:
            return await self.engine.run(encoder.compute, batch)

        batcher = Batcher(compute, batch_tokens, self.settings.queue_tokens, report=report)
        self.batchers.append(batcher)
        self.runtime.spawn(batcher.run(), f"queue of {encoder.facts.name}")
        return batcher

    def _log(self, facts: EncoderFacts, batch_tokens: int, trial: Trial | None) -> None:
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
