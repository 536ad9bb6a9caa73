"""Both sides in this process: our model behind our queue, and sentence-transformers over the same folder."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.chassis import models
from services.chassis.executor import Executor
from services.embedder import model, precision, probing
from services.embedder.batching import Batch, Batcher, Vector
from services.embedder.cache import VectorCache
from services.embedder.config import Precision
from services.embedder.embedding import Asking, Embedded, Embedder, EncodingModel, Prefixes, Use, Wanted
from services.embedder.shelf import Place, Shelf

PEER_BATCH = 32
_WORDS = [
    "river",
    "ferry",
    "lantern",
    "harbour",
    "seventeen",
    "paper",
    "engine",
    "winterly",
    "crown",
    "of",
    "the",
    "stone",
    "rope",
    "signal",
]


@dataclass(frozen=True, slots=True)
class Models:
    """What is measured: ours as the start-up trials chose it, and the peer in float32."""

    resolved: models.ResolvedModel
    encoder: model.Encoder
    tokenizer: model.FastTokenizer
    batch_tokens: int
    threads: int
    peer: Any

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The peer's vectors [texts, dimensions]."""
        vectors: NDArray[np.float32] = self.peer.encode(
            list(texts), batch_size=PEER_BATCH, normalize_embeddings=True, show_progress_bar=False
        )
        return vectors

    def tokens(self, texts: Sequence[str]) -> int:
        """Tokens of the texts that are computed."""
        return sum(min(len(ids), self.encoder.facts.max_tokens) for ids in self.tokenizer.ids(texts))


def prepared(threads: int) -> Models:
    """Load both.  Blocks."""
    from sentence_transformers import SentenceTransformer

    resolved = models.resolve(models.DEFAULT_EMBEDDING)

    def load(dtype: str) -> model.Encoder:
        return model.load(resolved, dtype=dtype, threads=threads)

    chosen, _ = precision.choose(Precision.AUTO, load, precision.processor_has_bfloat16())
    budget = probing.fastest_budget(chosen, threads)
    peer = SentenceTransformer(str(resolved.path), device="cpu", local_files_only=True)
    return Models(resolved, chosen, model.FastTokenizer(resolved.path), budget, threads, peer)


@asynccontextmanager
async def embedder(found: Models, encoder: model.Encoder | None = None) -> AsyncIterator[Embedder]:
    """Our verbs over ``encoder``, the chosen one if there is none, as the service has them, with nothing kept."""
    used = encoder or found.encoder
    engine, blocking = Executor(1, name="engine"), Executor(2, name="blocking")

    async def compute(batch: Batch) -> Sequence[Vector]:
        return await engine.run(used.compute, batch)

    batcher = Batcher(compute, found.batch_tokens, 1_000_000, used.pads)
    running = asyncio.create_task(batcher.run())
    loaded = EncodingModel(used.facts, found.tokenizer, batcher, Prefixes(), shortens=False)

    async def never() -> Any:
        raise AssertionError("it is loaded already")

    shelf = Shelf((Place(used.facts.name, never, never, used.facts, None, loaded),))
    try:
        yield Embedder(shelf, VectorCache(b"bench", None, blocking.run), blocking.run, 4)
    finally:
        running.cancel()
        engine.close()
        blocking.close()


async def embed(ours: Embedder, texts: Sequence[str]) -> Embedded:
    """One request."""
    return await ours.embed(Asking("bench"), Wanted("", tuple(texts), Use.DOCUMENT))


def mixed(count: int, seed: int = 7) -> list[str]:
    """Texts of 3 to 180 words, all different."""
    chance = random.Random(seed)
    return [f"{seed} {number} " + " ".join(chance.choices(_WORDS, k=chance.randint(3, 180))) for number in range(count)]


def questions(count: int, seed: int = 11) -> list[str]:
    """Texts of 6 to 16 words, all different."""
    chance = random.Random(seed)
    return [f"{seed} {number} " + " ".join(chance.choices(_WORDS, k=chance.randint(6, 16))) for number in range(count)]
