import asyncio

import pytest
from hypothesis import settings

from services.chassis import models
from services.chassis.executor import Executor
from services.embedder import model
from services.embedder.batching import Batcher
from services.embedder.cache import VectorCache
from services.embedder.cache_file import VectorFile
from services.embedder.embedding import Embedder, EncodingModel, Prefixes
from services.embedder.reranking import Reranker
from services.embedder.shelf import Place, Shelf

settings.register_profile("suite", deadline=None)


@pytest.fixture(scope="session")
def resolved() -> models.ResolvedModel:
    return models.resolve(models.DEFAULT_EMBEDDING)


@pytest.fixture(scope="session")
def exact(resolved) -> model.TorchEncoder:
    return model.load(resolved, dtype="float32", threads=1)


@pytest.fixture(scope="session")
def tokenizer(resolved) -> model.FastTokenizer:
    return model.FastTokenizer(resolved.path)


@pytest.fixture
def vector_file(tmp_path) -> VectorFile:
    return VectorFile(tmp_path / "vectors.db", b"s" * 32, 10**9)


@pytest.fixture
async def embedder(exact, tokenizer, vector_file):
    """The real model behind the real queue, with a cache on disk."""

    async def compute(batch):
        return await asyncio.to_thread(exact.compute, batch)

    batcher = Batcher(compute, batch_tokens=2048, queue_tokens=100_000)
    running = asyncio.create_task(batcher.run())
    disk = Executor(1, name="cache")
    cache = VectorCache(vector_file.secret, vector_file, disk.run)
    yield Embedder(
        on_shelf(EncodingModel(exact.facts, tokenizer, batcher, Prefixes(), False)), cache, asyncio.to_thread, 4
    )
    running.cancel()
    disk.close()
    vector_file.close()


@pytest.fixture
def batcher(embedder) -> Batcher:
    """The queue of the default model."""
    queue: Batcher = embedder.encoders.places[0].loaded.batcher
    return queue


@pytest.fixture
def reranker(embedder) -> Reranker:
    return Reranker(embedder.encoders, Shelf(()), asyncio.to_thread)


def on_shelf(model: EncodingModel) -> Shelf[EncodingModel]:
    """A shelf of one model that is in memory."""

    async def facts():
        return model.facts

    async def loaded():
        return model.facts, model

    return Shelf((Place(model.facts.name, facts, loaded, model.facts, None, model),))
