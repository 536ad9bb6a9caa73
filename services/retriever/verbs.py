"""Puts the retriever together: catalog, index, parser, ingestion, verbs.

Invariant: nothing is served before the index holds what the catalog says, and the
workers end before what they write to is closed.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from services.chassis import tasks
from services.chassis.database import Database, open_database
from services.chassis.errors import Code, Failure
from services.chassis.runtime import Runtime
from services.retriever import catalog
from services.retriever.aggregates.counting import Aggregates
from services.retriever.catalog import Collections
from services.retriever.changes import Changes
from services.retriever.config import RetrieverSettings
from services.retriever.documents.batches import Batches
from services.retriever.documents.documents import Documents
from services.retriever.documents.intake import Intake
from services.retriever.documents.removal import Removal
from services.retriever.documents.watching import Watching
from services.retriever.expiry import Activity, Expiry
from services.retriever.generation import Generator, NoGenerator
from services.retriever.index.building import Builder
from services.retriever.index.gates import Gates
from services.retriever.index.indexes import opened_indexes
from services.retriever.index.mending import Mending
from services.retriever.index.places import Kind
from services.retriever.index.reindexing import Reindexing
from services.retriever.index.repair import repair
from services.retriever.index.routing import Router
from services.retriever.ingestion import parsing
from services.retriever.ingestion.conversion import Conversions
from services.retriever.ingestion.ingestion import Ingestion, Pace, Tools
from services.retriever.ingestion.publishing import Publisher
from services.retriever.ingestion.queue import Job, Queue
from services.retriever.peers import RemoteEmbeddings
from services.retriever.peers_generator import RemoteGenerator
from services.retriever.questions.sets import QuestionSets
from services.retriever.questions.writing import QuestionWriting
from services.retriever.reembedding.reembedding import Reembedding
from services.retriever.search.expansion import Expander
from services.retriever.search.looking import Looking
from services.retriever.search.pages import Pages
from services.retriever.search.reranking import Reranker
from services.retriever.search.search import Search
from services.retriever.search.trials import Tuner
from services.retriever.sources.composition import open_sources
from services.retriever.sources.sources import Sources
from services.retriever.summaries import building
from services.retriever.summaries.answering import Summaries
from services.retriever.summaries.grounding import Grounding
from services.retriever.summaries.statements import Mode
from services.retriever.summaries.wording import Wording
from services.retriever.text.tokens import Tokens


@dataclass(frozen=True, slots=True)
class Verbs:
    """What the retriever can do."""

    collections: Collections
    documents: Documents
    intake: Intake
    removal: Removal
    watching: Watching
    search: Search
    tuner: Tuner
    batches: Batches
    aggregates: Aggregates
    sources: Sources
    reembedding: Reembedding
    reindexing: Reindexing
    generator: Generator
    summaries: Summaries
    summary_mode: Mode
    dense_weight: float


@asynccontextmanager
async def open_verbs(runtime: Runtime) -> AsyncIterator[Verbs]:
    """Open what the service stands on, ingest in the background, close in reverse."""
    settings = runtime.settings
    assert isinstance(settings, RetrieverSettings)
    limits = parsing.Limits(settings.parse_seconds, settings.parse_memory_bytes)
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(
            open_database(settings.database_url, "services.retriever.migrations")
        )
        router = await stack.enter_async_context(_router(runtime, settings, database))
        parser = await stack.enter_async_context(parsing.opened(limits))
        embeddings = RemoteEmbeddings(runtime.channel("embedder"))
        tools = Tools(
            queue=Queue(database),
            conversions=Conversions(database, partial(_now, runtime), settings.max_document_characters),
            publisher=Publisher(database),
            parser=parser,
            embeddings=embeddings,
            index=router,
            gates=Gates(),
            changes=Changes(),
            acting_for=runtime.acting_for,
            blocking=runtime.blocking,
            report=_reporter(runtime),
        )
        ingestion = await stack.enter_async_context(_ingesting(runtime, settings, tools))
        page_key = await database.write(catalog.page_key)
        mending = _mending(runtime, settings, database, tools, ingestion)
        await stack.enter_async_context(_running(runtime, mending.run(), "mending"))
        now = partial(_now, runtime)
        generator = _generator(runtime, settings)
        collections = Collections(database, now, generator, embeddings.require_ranker)
        documents = Documents(database, now)
        activity = Activity(now)
        intake = _intake(runtime, settings, collections, documents, tools, ingestion, activity)
        removal = Removal(
            collections, documents, tools.index, tools.gates, tools.changes, runtime.blocking, activity.used
        )
        stack.push_async_callback(removal.finish)
        sources = await stack.enter_async_context(open_sources(runtime, settings, database, intake, removal))
        builder = Builder(tools.index, runtime.blocking)
        reembedding = Reembedding(database, tools, ingestion, builder, now)
        await stack.enter_async_context(_running(runtime, reembedding.run(), "reembedding"))
        sets = QuestionSets(database, tools.gates, settings.vector_cache_bytes)
        writing = QuestionWriting(
            database, generator, tools.embeddings, runtime.acting_for, sets.changed, settings.retry_seconds
        )
        collections.updated = writing.wake
        await stack.enter_async_context(_running(runtime, writing.run(), "questions"))
        search = Search(
            database=database,
            embeddings=tools.embeddings,
            gates=tools.gates,
            looking=Looking(database, tools.index, runtime.blocking, settings.search_depth, questions=sets),
            pages=Pages(page_key, now, settings.pages_seconds),
            reranker=Reranker(tools.embeddings, settings.rerank_weight, settings.rerank_seconds),
            expander=Expander(generator, tools.embeddings, settings.expand_seconds),
            used=activity.used,
        )
        expiry = Expiry(
            database, activity, tools.index, tools.gates, tools.changes, runtime.blocking, settings.expiry_seconds
        )
        await stack.enter_async_context(_running(runtime, expiry.run(), "expiry"))
        yield Verbs(
            collections=collections,
            documents=documents,
            intake=intake,
            removal=removal,
            watching=Watching(database, tools.changes),
            search=search,
            batches=Batches(database, removal, now, runtime.new_id),
            tuner=Tuner(search, collections, documents, settings.dense_weight),
            aggregates=Aggregates(database, tools.index, tools.gates, runtime.blocking, Tokens()),
            sources=sources,
            reembedding=reembedding,
            reindexing=Reindexing(database, tools.index, tools.gates, builder),
            generator=generator,
            summaries=_summaries(runtime, database, tools, generator),
            summary_mode=settings.summary_mode,
            dense_weight=settings.dense_weight,
        )


def _generator(runtime: Runtime, settings: RetrieverSettings) -> Generator:
    """The generator, which need not be there before it is asked."""
    return RemoteGenerator(runtime.channel("generator")) if settings.generation else NoGenerator()


def _summaries(runtime: Runtime, database: Database, tools: Tools, generator: Generator) -> Summaries:
    nodes = building.Builder(database, Wording(generator, Grounding(Tokens())), runtime.blocking)
    return Summaries(database, nodes, tools.embeddings, generator)


@asynccontextmanager
async def _router(runtime: Runtime, settings: RetrieverSettings, database: Database) -> AsyncIterator[Router]:
    """The indexes as the catalog says they should be, those that can be reached."""
    async with opened_indexes(settings, await database.write(catalog.identity)) as indexes:
        router = Router(indexes, settings.index)
        for kind in indexes:
            try:
                added, removed = await asyncio.to_thread(repair, database, router, kind)
                runtime.log.info("index_opened", kind=kind.value, added=added, removed=removed)
            except Failure as failure:
                if failure.code is not Code.UNAVAILABLE:
                    raise
                runtime.log.warning("index_away", kind=kind.value)
                router.lose(kind)
        yield router


def _mending(
    runtime: Runtime, settings: RetrieverSettings, database: Database, tools: Tools, ingestion: Ingestion
) -> Mending:
    """What brings an index that was away back to the catalog's state."""

    def report(kind: Kind, added: int, removed: int) -> None:
        runtime.log.info("index_mended", kind=kind.value, added=added, removed=removed)

    return Mending(database, tools.index, tools.gates, runtime.blocking, ingestion.wake, report, settings.retry_seconds)


@asynccontextmanager
async def _running(runtime: Runtime, work: Coroutine[Any, Any, None], name: str) -> AsyncIterator[None]:
    """The work in the background; it has ended before what it writes to is closed."""
    task = runtime.spawn(work, name)
    try:
        yield
    finally:
        await tasks.end(task)


@asynccontextmanager
async def _ingesting(runtime: Runtime, settings: RetrieverSettings, tools: Tools) -> AsyncIterator[Ingestion]:
    """The workers, from what was left in the queue on."""
    pace = Pace(settings.max_chunk_tokens, settings.embed_texts, settings.retry_seconds)
    ingestion = Ingestion(tools, pace)
    await tools.queue.recover()
    workers = [runtime.spawn(ingestion.run(), f"ingestion-{number}") for number in range(settings.ingestion_workers)]
    try:
        yield ingestion
    finally:
        await tasks.end(*workers)


def _now(runtime: Runtime) -> float:
    """Unix time in seconds."""
    return runtime.clock.now().timestamp()


def _intake(
    runtime: Runtime,
    settings: RetrieverSettings,
    collections: Collections,
    documents: Documents,
    tools: Tools,
    ingestion: Ingestion,
    activity: Activity,
) -> Intake:
    return Intake(
        collections=collections,
        documents=documents,
        changes=tools.changes,
        blocking=runtime.blocking,
        wake=ingestion.wake,
        new_id=runtime.new_id,
        uploads=_emptied(settings.service_dir / "uploads"),
        limit_bytes=settings.max_document_bytes,
        used=activity.used,
    )


def _emptied(folder: Path) -> Path:
    """The folder of unfinished uploads, without those that a kill left behind."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _reporter(runtime: Runtime) -> Callable[[str, Job, Failure | None], None]:
    """What writes down how a job ended; its id is the client's own text and stays out of the log."""
    outcomes = runtime.metrics.counter(
        "trivium_retriever_ingestion_outcomes", "Ingestion jobs by outcome.", ("outcome",)
    )

    def report(outcome: str, job: Job, failure: Failure | None) -> None:
        outcomes.labels(outcome).inc()
        runtime.log.info(
            outcome,
            tenant_id=job.tenant,
            collection_number=job.collection_number,
            document_number=job.document_number,
            reason=failure.reason.name if failure else "",
        )

    return report
