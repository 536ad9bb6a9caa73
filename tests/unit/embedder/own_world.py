"""An embedder over one deployment's model and a registry of tenants' encoders, all real but the registry's wire."""

import asyncio
import shutil
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from services.chassis import models
from services.chassis.executor import Executor
from services.chassis.full_models import FullModels
from services.chassis.runtime import Runtime
from services.embedder import model
from services.embedder.batching import Batch, Product
from services.embedder.cache import VectorCache
from services.embedder.config import EmbedderSettings, ModelSetting, Precision
from services.embedder.embedding import Asking, Embedder, EncodingModel, Use, Wanted
from services.embedder.listing import Models
from services.embedder.loading import Chosen, Workshop
from services.embedder.own_loading import OwnLoading, describe
from services.embedder.own_models import OwnModels, Room
from services.embedder.own_versions import OwnVersions
from services.embedder.reranking import PairModel, Reranker
from services.embedder.shelf import Shelf
from tests.tiny_encoder import build_cross_encoder, build_encoder
from tests.unit.embedder.tenants_registry import TenantsRegistry

ADA, BEN = Asking("ada", tenant="ada"), Asking("ben", tenant="ben")
TEXT = "How much is a single crossing?"
BELIEVED_SECONDS = 5.0


class ExactWorkshop(Workshop):
    """Loads every model in its files' precision: which one is faster depends on what else the machine does."""

    def chosen(self, wanted: Precision, *arguments: Any, **named: Any) -> Chosen:
        """As Workshop, without a trial."""
        return super().chosen(Precision.FLOAT32, *arguments, **named)


class World:
    """The verbs, what they stand on, and a clock that stands still until it is moved."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = 0.0
        self.registry = TenantsRegistry()
        self.engine, self.loader = Executor(1, name="engine"), Executor(1, name="loader")
        self._tasks: list[asyncio.Task[None]] = []

    def encoder(self, seed: int) -> Path:
        """A tiny encoder's folder, flat as the registry keeps one."""
        folder = build_encoder(self.folder / f"encoder-{seed}", seed=seed)
        shutil.rmtree(folder / "1_Pooling")
        return folder

    def cross_encoder(self, seed: int = 2) -> Path:
        """A tiny cross-encoder's folder."""
        return build_cross_encoder(self.folder / f"cross-{seed}", seed=seed)

    def _spawn(self, work, name):
        task = asyncio.create_task(work, name=name)
        self._tasks.append(task)
        return task

    async def open(self, room: Room) -> None:
        """Load the deployment's model, and give tenants' this much room."""
        runtime = SimpleNamespace(
            blocking=asyncio.to_thread, spawn=self._spawn, log=SimpleNamespace(info=lambda *_, **__: None)
        )
        settings = EmbedderSettings(threads=1, batch_tokens=1024, data_dir=self.folder)
        self.workshop = ExactWorkshop(cast(Runtime, runtime), settings, self.engine, 1)
        setting = ModelSetting(uri=f"file:{self.encoder(1)}", name="tiny", precision=Precision.FLOAT32)
        place = self.workshop.encoder_place(setting, lambda _: None)
        await place.ready()
        loading = OwnLoading(
            self.workshop, self.registry, FullModels(self.folder / "cache"), self.loader, lambda _: None
        )
        versions = OwnVersions(self.registry, describe, BELIEVED_SECONDS, lambda: self.now)
        self.own = OwnModels(versions, loading.load, room, lambda: self.now, patience_seconds=0.05)
        encoders: Shelf[EncodingModel] = Shelf((place,))
        pairs: Shelf[PairModel] = Shelf(())
        self.embedder = Embedder(encoders, VectorCache(b"s", None, asyncio.to_thread), asyncio.to_thread, 4, self.own)
        self.reranker = Reranker(encoders, pairs, asyncio.to_thread, self.own)
        self.models = Models(encoders, pairs, self.own)

    async def close(self) -> None:
        """End all of it."""
        await self.own.close()
        self.loader.close()
        self.engine.close()
        for task in self._tasks:
            task.cancel()

    async def embed(self, asking: Asking, name: str, text: str = TEXT):
        """One document's vector."""
        self.registry.asking = asking
        self.now += 0.001
        return await self.embedder.embed(asking, Wanted(name, (text,), Use.DOCUMENT))

    def in_memory(self) -> set[str]:
        """The names of tenants' models that are loaded."""
        return {seat.loaded.model.facts.name for seat in self.own._seats.values() if seat.loaded is not None}


@asynccontextmanager
async def opened(folder: Path, *, room: int = 8, gib: float = 1.0):
    """A world with room for so many models of tenants'."""
    world = World(folder)
    await world.open(Room(room, int(gib * (1 << 30))))
    yield world
    await world.close()


def plain(folder: Path, text: str = TEXT):
    """The vector that a folder's model gives a text, loaded for itself alone."""
    resolved = models.resolve(f"file:{folder}", cache=folder.parent / "plain")
    encoder = model.load(resolved, dtype="float32", threads=1)
    (ids,) = model.FastTokenizer(resolved.path).ids([text])
    return encoder.compute(Batch(Product.POOLED, (ids,)))[0]
