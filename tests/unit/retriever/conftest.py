import asyncio
import itertools
import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from services.chassis import models
from services.chassis.database import Database, open_database
from services.chassis.idempotency import IdempotencyKey
from services.embedder import model
from services.retriever import catalog
from services.retriever.catalog import Collections
from services.retriever.changes import Changes
from services.retriever.collection import Draft
from services.retriever.documents.documents import Documents
from services.retriever.documents.media import Source
from services.retriever.documents.removal import Removal
from services.retriever.documents.states import State
from services.retriever.documents.storing import Put
from services.retriever.index.embedded import EmbeddedIndex
from services.retriever.index.gates import Gates
from services.retriever.index.places import Kind
from services.retriever.index.repair import repair
from services.retriever.index.routing import Router
from services.retriever.ingestion import parsing
from services.retriever.ingestion.conversion import Conversions
from services.retriever.ingestion.ingestion import Ingestion, Pace, Tools
from services.retriever.ingestion.publishing import Publisher
from services.retriever.ingestion.queue import Queue
from services.retriever.text import texts
from tests.unit.retriever.encoding import LocalEmbeddings

LIMITS = parsing.Limits(seconds=30, memory_bytes=2 * 1024**3)
SCHEMA = "services.retriever.migrations"


@pytest.fixture(scope="session")
def encoder():
    resolved = models.resolve(models.DEFAULT_EMBEDDING)
    return model.load(resolved, dtype="float32", threads=1), model.FastTokenizer(resolved.path)


@pytest.fixture
def embeddings(encoder):
    return LocalEmbeddings(*encoder)


@asynccontextmanager
async def nobody(tenant):
    yield


@dataclass
class House:
    """Catalog, index and ingestion in a folder, without a server.  ``asked`` collects what ingestion reports."""

    database: Database
    index: Router
    embeddings: LocalEmbeddings
    collections: Collections
    documents: Documents
    removal: Removal
    ingestion: Ingestion
    changes: Changes
    reports: list[tuple[str, str]]

    async def put(self, document, content, *, tenant="ada", collection="rules", title="", metadata=None, request_id=""):
        raw = content.encode() if isinstance(content, str) else content
        text = texts.read(Source(document, "", raw), 10_000_000)
        key = IdempotencyKey(tenant, "put", request_id, raw)
        stored = await self.documents.put(tenant, Put(collection, document, title, metadata or {}), text, key)
        self.ingestion.wake()
        return stored

    async def settled(self, document, *, tenant="ada", collection="rules"):
        number = await self.collections.number(tenant, collection)
        while True:
            changed = self.changes.next(number)
            found = await self.documents.get(tenant, collection, document)
            if found.state not in State.unfinished():
                return found
            await asyncio.wait_for(changed.wait(), 30)

    async def ingested(self, document, content, **rest):
        await self.put(document, content, **rest)
        return await self.settled(document, **{k: v for k, v in rest.items() if k in ("tenant", "collection")})

    async def create(self, collection="rules", tenant="ada"):
        key = IdempotencyKey(tenant, "create", "", b"")
        return await self.collections.create(tenant, Draft(collection), key)


@cache
def empty_catalog():
    """The bytes of a catalog that has the newest schema and nothing in it: a test of rows need not run all revisions."""

    async def migrated(file):
        async with open_database(f"sqlite:///{file}", SCHEMA):
            pass
        return file.read_bytes()

    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(migrated(Path(folder) / "catalog.db"))


@asynccontextmanager
async def opened(folder: Path, embeddings, *, workers=1, embed_texts=128, max_chunk_tokens=200, catalog_url=""):
    clock = itertools.count(1_700_000_000)
    file = folder / "catalog.db"
    if not catalog_url and not file.exists():
        file.write_bytes(await asyncio.to_thread(empty_catalog))
    async with (
        open_database(catalog_url or f"sqlite:///{file}", SCHEMA) as database,
        parsing.opened(LIMITS) as parser,
    ):
        index = EmbeddedIndex(folder / "index.db", await database.write(catalog.identity), 64 * 1024**2)
        await asyncio.to_thread(index.open)
        router = Router({Kind.EMBEDDED: index}, Kind.EMBEDDED)
        await asyncio.to_thread(repair, database, router, Kind.EMBEDDED)
        collections, documents = Collections(database, lambda: next(clock)), Documents(database, lambda: next(clock))
        gates, changes, reports = Gates(), Changes(), []
        tools = Tools(
            queue=Queue(database),
            conversions=Conversions(database, lambda: next(clock), 10_000_000),
            publisher=Publisher(database),
            parser=parser,
            embeddings=embeddings,
            index=router,
            gates=gates,
            changes=changes,
            acting_for=nobody,
            blocking=asyncio.to_thread,
            report=lambda event, job, failure: reports.append((event, job.document)),
        )
        ingestion = Ingestion(tools, Pace(max_chunk_tokens, embed_texts, 0.05))
        await tools.queue.recover()
        running = [asyncio.create_task(ingestion.run()) for _ in range(workers)]
        removal = Removal(collections, documents, router, gates, changes, asyncio.to_thread)
        yield House(database, router, embeddings, collections, documents, removal, ingestion, changes, reports)
        for task in running:
            task.cancel()
        ended = await asyncio.gather(*running, return_exceptions=True)
        index.close()
        # A worker that broke is why nothing was settled.
        assert all(isinstance(each, asyncio.CancelledError) for each in ended), ended


ON_POSTGRES = pytest.mark.sampled(every=4, family="units of the retriever on PostgreSQL")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=ON_POSTGRES)])
def catalog_url(request):
    """Where a catalog is: what holds on one database holds on the other."""
    return "" if request.param == "sqlite" else request.getfixturevalue("postgres_url")


@pytest.fixture
async def house(tmp_path, embeddings, catalog_url):
    async with opened(tmp_path, embeddings, catalog_url=catalog_url) as made:
        await made.create()
        yield made
