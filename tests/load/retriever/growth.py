"""How each cost grows with the collection: searches by stage, a document added and deleted, starting, bytes a chunk.

Passages are stocked; the documents that are added and deleted go the whole way of ingestion, with vectors that cost
nothing, so that what grows is not hidden behind a model.
"""

import statistics
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.load.retriever.bench import Bench, Figures
from tests.load.retriever.drawn import DrawnEmbeddings, DrawnTexts
from tests.load.retriever.library import opened
from tests.load.retriever.sets import Source
from tests.load.retriever.stock import PASSAGES, Stock

_QUESTIONS = 100
_DOCUMENTS = 5
_STAGES = ("sparse", "dense", "answerable", "fuse")


async def figures(bench: Bench) -> Figures:
    """``growth``: by cost a figure for each size, and by what the greatest size costs more than the least."""
    texts, embeddings = DrawnTexts(bench.data), DrawnEmbeddings()
    rows: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        passages: list[str] = []
        for size in bench.growth:
            async with opened(folder, embeddings) as library:
                stock = Stock(library, texts, embeddings, passages=passages)
                await stock.grow(size)
                passages = stock.passages
                found = await _searched(stock) | await _changed(stock)
            began = time.perf_counter()
            async with opened(folder, embeddings):
                found["open_ms"] = 1000 * (time.perf_counter() - began)
            rows.append(found | _bytes(folder, size))
    _told(bench.growth, rows)
    costs = {cost: [round(row[cost], 3) for row in rows] for cost in rows[0]}
    times = {cost: round(found[-1] / found[0], 2) for cost, found in costs.items() if found[0]}
    return {"growth": {"chunks": list(bench.growth), **costs}, "growth_times": times}


async def _searched(stock: Stock) -> dict[str, float]:
    """Median milliseconds of a search and of its stages."""
    whole: list[float] = []
    stages: dict[str, list[float]] = {stage: [] for stage in _STAGES}
    for question in stock.texts.questions[:_QUESTIONS]:
        began = time.perf_counter()
        found = await stock.library.found(stock.name, question)
        whole.append(time.perf_counter() - began)
        for stage, each in stages.items():
            each.append(found.seconds.get(stage, 0.0))
    return {
        "search_ms": 1000 * statistics.median(whole),
        **{f"{stage}_ms": 1000 * statistics.median(each) for stage, each in stages.items()},
    }


async def _changed(stock: Stock) -> dict[str, float]:
    """Median milliseconds of adding a document of twenty passages, and of deleting it."""
    added, deleted = [], []
    for number in range(_DOCUMENTS):
        source = Source(f"new-{number}.md", stock.texts.document(PASSAGES))
        began = time.perf_counter()
        await stock.library.add(stock.name, [source])
        added.append(time.perf_counter() - began)
        began = time.perf_counter()
        await stock.library.remove(stock.name, source.document)
        deleted.append(time.perf_counter() - began)
    return {"add_document_ms": 1000 * statistics.median(added), "delete_document_ms": 1000 * statistics.median(deleted)}


def _bytes(folder: Path, chunks: int) -> dict[str, float]:
    """Bytes on disk a chunk, of both databases with their logs."""
    return {
        f"{name}_bytes_a_chunk": sum(path.stat().st_size for path in folder.glob(f"{name}.db*")) / chunks
        for name in ("catalog", "index")
    }


def _told(sizes: tuple[int, ...], rows: list[dict[str, float]]) -> None:
    table = Table(title="Costs by the chunks of the collection")
    table.add_column("cost")
    for size in sizes:
        table.add_column(f"{size:,}", justify="right")
    for cost in rows[0]:
        table.add_row(cost, *(f"{row[cost]:,.2f}" for row in rows))
    Console(width=max(150, Console().width)).print(table)
