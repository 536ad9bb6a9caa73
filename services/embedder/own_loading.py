"""From a tenant's version to a model in memory, beside models that others are computing with.

The weights are read in a thread of their own, in float32; the engine's thread, which serves
everybody, is taken only for what computes: the self-test, and the change to bfloat16, during
which nothing else may be computed (transformers switches torch's default type meanwhile).
How large a batch is best is not tried, which would keep everybody waiting for seconds:
a tenant's model takes what was found for the default.  Invariant: a model that is handed out
has computed numbers, and was held against itself in float32 before it computes in less.
"""

import asyncio
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from services.chassis.errors import Failure, Reason
from services.chassis.executor import Executor
from services.chassis.full_models import FullModel, FullModels
from services.chassis.models import ModelKind, ResolvedModel
from services.embedder import cross_encoder, model, precision
from services.embedder.batching import Batch, Product, Report
from services.embedder.config import Precision
from services.embedder.embedding import EncodingModel, Prefixes
from services.embedder.loading import Chosen, Computes, Workshop
from services.embedder.model import EncoderFacts, ordinary_ids
from services.embedder.own_models import Loaded
from services.embedder.own_versions import OwnVersion, Registry, Role
from services.embedder.reranking import PairModel

_CLASSIFIER = "ForSequenceClassification"
_EXACT = "float32"
_TESTED_ROWS, _TESTED_TOKENS = 4, 16
T = TypeVar("T")
Tokenizing = TypeVar("Tokenizing", model.FastTokenizer, cross_encoder.PairTokenizer)


@dataclass(slots=True)
class OwnLoading:
    """Loads tenants' models in ``loader``, a thread, for the workshop's engine."""

    workshop: Workshop
    registry: Registry
    cache: FullModels
    loader: Executor
    report: Report

    async def load(self, own: OwnVersion) -> Loaded:
        """The version in memory, fetched if need be, as the service itself: whoever asked for it may be gone.

        Raises MODEL_SOURCE_INVALID, DISK_FULL, and what the registry fails with.
        """
        async with self.registry.as_service(), self.cache.using(own.files, self.registry.download) as resolved:
            if own.role is Role.RERANKER:
                return await self._pairs(own, resolved)
            return await self._encoder(own, resolved)

    async def _encoder(self, own: OwnVersion, resolved: ResolvedModel) -> Loaded:
        tokenizer = await self.loader.run(_tokenizer, own, model.FastTokenizer, resolved.path)
        workshop, loop = self.workshop, asyncio.get_running_loop()
        async with workshop.turn:
            chosen = await self.loader.run(self._chosen, own, resolved, loop)
        encoder, budget = chosen.encoder, chosen.batch_tokens
        await workshop.engine.run(_tested, encoder, Product.POOLED)
        workshop.log(encoder.facts, budget, chosen.trial)
        queue, close = workshop.queue(encoder, budget, self.report)
        return Loaded(EncodingModel(encoder.facts, tokenizer, queue, Prefixes(), shortens=False), close)

    def _chosen(self, own: OwnVersion, resolved: ResolvedModel, loop: asyncio.AbstractEventLoop) -> Chosen:
        """Load and try out.  Blocks, in the loader's thread."""
        read = self.workshop.loader_of(resolved, own.facts)

        def in_engine(function: Callable[..., T], *arguments: object) -> T:
            return asyncio.run_coroutine_threadsafe(self.workshop.engine.run(function, *arguments), loop).result()

        def load(dtype: str) -> model.Encoder:
            return read(dtype) if dtype == _EXACT else in_engine(read, dtype)

        def beside(exact: model.Encoder, fast: model.Encoder) -> precision.Trial:
            return in_engine(precision.compare, exact, fast)

        return self.workshop.chosen(Precision.AUTO, resolved, load, beside=beside, budget=self.workshop.budget)

    async def _pairs(self, own: OwnVersion, resolved: ResolvedModel) -> Loaded:
        tokenizer = await self.loader.run(_tokenizer, own, cross_encoder.PairTokenizer, resolved.path)
        workshop = self.workshop
        load = partial(
            cross_encoder.load, resolved, own.facts, dtype=_EXACT, threads=workshop.threads, device=workshop.device()
        )
        async with workshop.turn:
            encoder = await self.loader.run(load)
        await workshop.engine.run(_tested, encoder, Product.SCORE)
        workshop.log(encoder.facts, workshop.pairs_budget, None)
        queue, close = workshop.queue(encoder, workshop.pairs_budget, self.report)
        return Loaded(PairModel(encoder.facts, tokenizer, queue), close)


async def describe(files: FullModel, contents: Mapping[str, bytes], name: str) -> tuple[Role, EncoderFacts]:
    """Implements ``own_versions.Describe``."""
    return await asyncio.to_thread(_described, files, contents, name)


def _described(files: FullModel, contents: Mapping[str, bytes], name: str) -> tuple[Role, EncoderFacts]:
    with tempfile.TemporaryDirectory(prefix="trivium-encoder-") as folder:
        for filename, content in contents.items():
            (Path(folder) / filename).write_bytes(content)
        resolved = ResolvedModel(Path(folder), files.digest, name, ModelKind.EMBEDDER, name)
        kinds = model.folder_json(resolved.path / "config.json").get("architectures") or [""]
        try:
            if str(kinds[0]).endswith(_CLASSIFIER):
                return Role.RERANKER, cross_encoder.described(resolved)
            return Role.EMBEDDER, model.described(resolved)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise _invalid(name, f"its configuration cannot be read ({type(error).__name__})") from error


def _tokenizer(own: OwnVersion, read: Callable[[Path], Tokenizing], folder: Path) -> Tokenizing:
    """The tokenizer of a folder, which knows no token that the model does not.  Blocks.  Raises MODEL_SOURCE_INVALID."""
    try:
        made = read(folder)
    except Exception as error:  # the library raises nothing narrower for what it cannot read
        raise _invalid(own.facts.name, f"its tokenizer.json cannot be read ({type(error).__name__})") from error
    if made.vocabulary > own.facts.vocabulary:
        problem = f"its tokenizer knows {made.vocabulary} tokens, the model {own.facts.vocabulary}"
        raise _invalid(own.facts.name, problem)
    return made


def _tested(encoder: Computes, product: Product) -> None:
    """Have it compute something.  Blocks, in the engine's thread.  Raises MODEL_SOURCE_INVALID unless numbers come out."""
    facts = encoder.facts
    length = min(_TESTED_TOKENS, facts.max_tokens)
    batch = Batch(product, ordinary_ids(facts.vocabulary, _TESTED_ROWS, length))
    try:
        found = np.stack(encoder.compute(batch))
    except (IndexError, RuntimeError, TypeError, ValueError) as error:
        raise _invalid(facts.name, f"it cannot compute ({type(error).__name__})") from error
    if not np.isfinite(found).all():
        raise _invalid(facts.name, "it computes no numbers; its weights are too large, or none themselves")


def _invalid(name: str, problem: str) -> Failure:
    return Failure(Reason.MODEL_SOURCE_INVALID, uri=name, name=name, problem=problem)
