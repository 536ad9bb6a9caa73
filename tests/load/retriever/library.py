"""The retriever's own parts in this process: what is measured is what serves, without the wire."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from services.chassis.database import open_database
from services.chassis.idempotency import IdempotencyKey
from services.retriever import catalog, collection
from services.retriever.catalog import Collections
from services.retriever.changes import Changes
from services.retriever.config import RetrieverSettings
from services.retriever.documents.documents import Documents
from services.retriever.documents.intake import Draft, Intake
from services.retriever.documents.readers import SERVICE
from services.retriever.documents.removal import Removal
from services.retriever.documents.watching import Watching
from services.retriever.generation import NoGenerator
from services.retriever.index.embedded import EmbeddedIndex
from services.retriever.index.gates import Gates
from services.retriever.index.index import Index
from services.retriever.index.places import Kind
from services.retriever.index.repair import repair
from services.retriever.index.routing import Router
from services.retriever.ingestion import parsing
from services.retriever.ingestion.conversion import Conversions
from services.retriever.ingestion.embeddings import Embeddings
from services.retriever.ingestion.ingestion import Ingestion, Pace, Tools
from services.retriever.ingestion.publishing import Publisher
from services.retriever.ingestion.queue import Queue
from services.retriever.search.answerable import Answerability
from services.retriever.search.expansion import Expander
from services.retriever.search.looking import Looking
from services.retriever.search.pages import Pages
from services.retriever.search.question import Found, Fusion, Mode, Question, Shape
from services.retriever.search.reranking import Reranker
from services.retriever.search.search import Search
from tests.load.retriever.sets import Corpus, Source

TENANT = "bench"
_PASSAGES = 100


@asynccontextmanager
async def _nobody(tenant: str) -> AsyncIterator[None]:
    yield


@dataclass
class Library:
    """A retriever over a folder.  ``failed`` names what could not be ingested."""

    settings: RetrieverSettings
    collections: Collections
    intake: Intake
    watching: Watching
    removal: Removal
    searching: Search
    # The workers: when one has died, nothing that waits for it ends.
    working: asyncio.Task[None]
    failed: list[str] = field(default_factory=list)

    async def fill(self, corpus: Corpus) -> None:
        """Bring a corpus in as a collection of its name, and wait until it is searchable."""
        key = IdempotencyKey(TENANT, "bench", "", b"")
        await self.collections.create(TENANT, collection.Draft(corpus.name), key)
        await self.add(corpus.name, corpus.documents)

    async def add(self, corpus: str, documents: Sequence[Source]) -> None:
        """Bring documents in, and wait until they are searchable."""
        key = IdempotencyKey(TENANT, "bench", "", b"")
        for it in documents:
            draft = Draft(corpus, it.document, it.title, "", {}, {}, (), SERVICE)
            await self.intake.put(TENANT, draft, it.content, key)
        await self._settled(corpus)

    async def remove(self, corpus: str, document: str) -> None:
        """Delete a document."""
        await self.removal.document(TENANT, corpus, document)

    async def _settled(self, corpus: str) -> None:
        """Wait until nothing is pending; raises what ended the worker, if something did."""
        following = asyncio.ensure_future(self._follow(corpus))
        await asyncio.wait({following, self.working}, return_when=asyncio.FIRST_COMPLETED)
        if self.working.done():
            following.cancel()
            await self.working
        await following

    async def _follow(self, corpus: str) -> None:
        async for beat in self.watching.follow(TENANT, corpus, ""):
            if beat.document.state == "failed":
                self.failed.append(f"{beat.document.document}: {beat.document.reason}")

    async def search(self, corpus: str, query: str, mode: Mode, *, rerank: int = 0) -> dict[str, float]:
        """Documents by their best passage's place, as scores that fall."""
        found = await self._found(corpus, query, mode, _PASSAGES, Shape(rerank_depth=rerank))
        places: dict[str, float] = {}
        for place, hit in enumerate(found.hits):
            places.setdefault(hit.passage.document, -float(place))
        return places

    async def answerability(self, corpus: str, query: str) -> Answerability:
        """What a search says of whether the corpus answers the question."""
        found = await self._found(corpus, query, Mode.HYBRID, 1, Shape())
        assert found.answerability is not None
        return found.answerability

    async def found(self, corpus: str, query: str) -> Found:
        """What a search with the default settings answers."""
        return await self._found(corpus, query, Mode.HYBRID, 10, Shape())

    async def _found(self, corpus: str, query: str, mode: Mode, most: int, shape: Shape) -> Found:
        question = Question(
            collections=(corpus,),
            queries=(query,),
            top_k=most,
            mode=mode,
            fusion=Fusion.SCORE,
            dense_weight=self.settings.dense_weight,
            metadata_equals={},
            documents=(),
            viewer=SERVICE,
            shape=shape,
        )
        return await self.searching.search(TENANT, question)


@asynccontextmanager
async def opened(
    folder: Path, embeddings: Embeddings, elsewhere: Callable[[str], Index] | None = None
) -> AsyncIterator[Library]:
    """A retriever with its default settings over a folder; ``elsewhere`` gives another index than its own by catalog."""
    settings = RetrieverSettings()
    limits = parsing.Limits(settings.parse_seconds, settings.parse_memory_bytes)
    async with (
        open_database(f"sqlite:///{folder / 'catalog.db'}", "services.retriever.migrations") as database,
        parsing.opened(limits) as parser,
    ):
        identity = await database.write(catalog.identity)
        index = EmbeddedIndex(folder / "index.db", identity, settings.vector_cache_bytes)
        await asyncio.to_thread(index.open)
        kind = Kind.WEAVIATE if elsewhere else Kind.EMBEDDED
        router = Router({kind: elsewhere(identity) if elsewhere else index}, kind)
        await asyncio.to_thread(repair, database, router, kind)
        tools = Tools(
            queue=Queue(database),
            conversions=Conversions(database, time.time, settings.max_document_characters),
            publisher=Publisher(database),
            parser=parser,
            embeddings=embeddings,
            index=router,
            gates=Gates(),
            changes=Changes(),
            acting_for=_nobody,
            blocking=asyncio.to_thread,
            report=lambda event, job, failure: None,
        )
        ingestion = Ingestion(tools, Pace(settings.max_chunk_tokens, settings.embed_texts, settings.retry_seconds))
        collections, documents = Collections(database, time.time), Documents(database, time.time)
        intake = Intake(
            collections=collections,
            documents=documents,
            changes=tools.changes,
            blocking=asyncio.to_thread,
            wake=ingestion.wake,
            new_id=lambda: "bench",
            uploads=folder,
            limit_bytes=settings.max_document_bytes,
        )
        removal = Removal(collections, documents, router, tools.gates, tools.changes, asyncio.to_thread)
        searching = Search(
            database=database,
            embeddings=embeddings,
            gates=tools.gates,
            looking=Looking(database, router, asyncio.to_thread, settings.search_depth),
            pages=Pages(b"bench", time.time, 1.0),
            reranker=Reranker(embeddings, settings.rerank_weight, 3600.0),
            expander=Expander(NoGenerator(), embeddings, 3600.0),
        )
        working = asyncio.create_task(ingestion.run())
        try:
            watching = Watching(database, tools.changes)
            yield Library(settings, collections, intake, watching, removal, searching, working)
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            await asyncio.to_thread(index.close)
