"""Chunks a second through the whole ingestion, over what the embedder does when nothing else is asked of anybody.

Retriever and embedder are processes of their own, the embedder with one thread and without a cache, so that every round
computes every vector.  The ceiling sends the very texts that ingestion embeds, all that the embedder can hold at once;
a round's ceiling and its ingestion follow one another, and the first round is not counted.
"""

import asyncio
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import grpc
import psutil
from trivium.embedder.v1 import embedder_pb2 as pb
from trivium.embedder.v1 import embedder_pb2_grpc
from trivium.retriever.v1 import retriever_pb2

from services.retriever.config import RetrieverSettings
from tests.library import Library
from tests.load.retriever.bench import Bench, Figures
from tests.load.retriever.sets import Source, multicorpus, xquad
from tests.stack import Process, Stack

_IN_FLIGHT = 4
_SECONDS = 900


async def figures(bench: Bench) -> Figures:
    """``ingest_ratio``: its median over the rounds, with the least and the greatest."""
    judged = xquad(bench.data) if bench.short else multicorpus(bench.data, "md")
    sources = [it for corpus in judged.corpora for it in corpus.documents][: bench.documents]
    return await _measured(sources, bench.rounds, bench.workers)


async def _measured(sources: Sequence[Source], rounds: int, workers: int) -> Figures:
    # Servers end with the thread that starts them, so it is this one that waits for them; nobody else is on its loop.
    ratios, rates, ceilings, shares = [], [], [], []
    with tempfile.TemporaryDirectory() as name:
        stack = Stack(Path(name))
        # Nobody asks it anything here.
        stack.registry.stop()
        settings = {"TRIVIUM_EMBEDDER_THREADS": "1", "TRIVIUM_EMBEDDER_CACHE_BYTES": "0"}
        embedder = Process("embedder", stack.data, {"TRIVIUM_ACCESS_ADDRESS": stack.access.address} | settings).start()
        library = Library(stack, stack.data, embedder.address, {"TRIVIUM_RETRIEVER_INGESTION_WORKERS": str(workers)})
        try:
            for number in range(rounds + 1):
                seconds, cpu_seconds, chunks = _ingested(library, embedder, sources)
                texts = _texts(stack.data)
                ceiling = await _ceiling(embedder, stack, texts)
                if number:
                    ratios.append(ceiling / seconds)
                    rates.append(chunks / seconds)
                    ceilings.append(len(texts) / ceiling)
                    shares.append(cpu_seconds / seconds)
        finally:
            library.close()
            embedder.stop()
            stack.close()
    print(f"ingestion {statistics.median(rates):.1f} chunks/s, the embedder alone {statistics.median(ceilings):.1f}")
    return {
        "ingest_ratio": round(statistics.median(ratios), 3),
        "ingest_ratio_spread": [round(min(ratios), 3), round(max(ratios), 3)],
        "ingest_workers": workers,
        "ingest_chunks_a_second": round(statistics.median(rates), 2),
        "embedder_chunks_a_second": round(statistics.median(ceilings), 2),
        # How much of a core the embedder had: below 1 it waited, or somebody else had the core.
        "ingest_embedder_cores": round(statistics.median(shares), 3),
    }


def _ingested(library: Library, embedder: Process, sources: Sequence[Source]) -> tuple[float, float, int]:
    """Wall seconds from the first put until all is searchable, the embedder's processor seconds, and chunks."""
    # A tenant of its own: vectors are kept by tenant, and nothing of a former round may be reused.
    reader = library.newcomer()
    process = psutil.Process(embedder.pid)
    cpu, began = sum(process.cpu_times()[:2]), time.perf_counter()
    for place, it in enumerate(sources):
        reader.put(f"{place}-{it.document}", it.content)
    reader.settled()
    seconds = time.perf_counter() - began
    counts = reader.api.GetStatistics(retriever_pb2.GetStatisticsRequest(collection=reader.collection))
    if counts.failed:
        raise RuntimeError(f"{counts.failed} documents could not be ingested")
    return seconds, sum(process.cpu_times()[:2]) - cpu, counts.vectors_computed


def _texts(data: Path) -> list[str]:
    """What was embedded for the newest tenant, each text once, in the order of the chunks."""
    query = (
        "SELECT DISTINCT CASE WHEN context = '' THEN text ELSE context || char(10) || text END FROM chunks "
        "WHERE collection_number = (SELECT max(number) FROM collections) ORDER BY document_number, start"
    )
    with sqlite3.connect(f"file:{data / 'retriever' / 'retriever.db'}?mode=ro", uri=True) as catalog:
        return [text for (text,) in catalog.execute(query)]


async def _ceiling(embedder: Process, stack: Stack, texts: Sequence[str]) -> float:
    """Seconds in which the embedder does all the texts, asked for some batches at a time."""
    batch = RetrieverSettings().embed_texts
    metadata = (("authorization", f"Bearer {stack.tenant_key(stack.tenant())}"),)
    gate = asyncio.Semaphore(_IN_FLIGHT)
    async with grpc.aio.insecure_channel(embedder.address) as channel:
        stub: embedder_pb2_grpc.EmbedderServiceAsyncStub = embedder_pb2_grpc.EmbedderServiceStub(channel)

        async def ask(some: Sequence[str]) -> None:
            async with gate:
                request = pb.EmbedRequest(texts=some, role=pb.TEXT_ROLE_DOCUMENT)
                await stub.Embed(request, timeout=_SECONDS, metadata=metadata)

        await ask(texts[:1])
        began = time.perf_counter()
        await asyncio.gather(*(ask(texts[first : first + batch]) for first in range(0, len(texts), batch)))
        return time.perf_counter() - began
