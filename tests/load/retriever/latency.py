"""How long a search takes among few and among many passages, beside the least that its two lists could cost.

The whole search in this process, but for the embedding of the question: catalog, both lists, fusion, hits.  The floors
are a product of a matrix in memory with the question's vector, and a bare FTS5 query for its words, alternating with it.
"""

import asyncio
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from services.retriever.index.embedded import EmbeddedIndex
from services.retriever.index.index import Entry, Index
from services.retriever.index.weaviate import WeaviateIndex
from services.retriever.text.keywords import fts_query, words
from tests.load.percentile import percentile
from tests.load.retriever.bench import Bench, Figures
from tests.load.retriever.drawn import DrawnEmbeddings, DrawnTexts
from tests.load.retriever.library import opened
from tests.load.retriever.stock import Stock
from tests.weaviate import Weaviate

_QUESTIONS = 200
_WARM = 20
_DEPTH = 100
_RECALLED = 10


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds of every search, by way."""

    by_way: dict[str, list[float]]

    def at(self, share: float) -> dict[str, float]:
        """That share of the searches took no longer, by way."""
        return {way: round(percentile(found, share), 2) for way, found in self.by_way.items()}


class Floors:
    """The two floors over the same passages."""

    def __init__(self, stock: Stock, folder: Path) -> None:
        self._matrix = stock.embeddings.vectors(stock.passages).astype(np.float32)
        self._words = sqlite3.connect(folder / "floor.db")
        self._words.execute("CREATE VIRTUAL TABLE IF NOT EXISTS texts USING fts5(text, tokenize = 'porter unicode61')")
        (held,) = self._words.execute("SELECT count(*) FROM texts").fetchone()
        self._words.executemany("INSERT INTO texts (text) VALUES (?)", ((text,) for text in stock.passages[held:]))
        self._words.commit()

    def close(self) -> None:
        """Close the file."""
        self._words.close()

    def product(self, vector: NDArray[np.float32]) -> object:
        """The nearest by one product."""
        scores = self._matrix @ vector
        return np.argpartition(scores, -min(_DEPTH, len(scores)))[-_DEPTH:]

    def fts5(self, question: str) -> object:
        """The best by a bare query."""
        query = "SELECT rowid FROM texts WHERE texts MATCH ? ORDER BY rank LIMIT ?"
        return self._words.execute(query, (fts_query(words(question)), _DEPTH)).fetchall()


async def timed(stock: Stock, folder: Path, questions: Sequence[str]) -> Times:
    """The search and its floors, one after the other for each question; the first ones are not counted."""
    floors = Floors(stock, folder)
    found: dict[str, list[float]] = {"search": [], "numpy": [], "fts5": []}
    for place, question in enumerate(questions):
        vector = stock.embeddings.vectors([question])[0].astype(np.float32)
        began = time.perf_counter()
        await stock.library.found(stock.name, question)
        seconds = {"search": time.perf_counter() - began}
        for way, work in (("numpy", lambda v=vector: floors.product(v)), ("fts5", lambda q=question: floors.fts5(q))):
            seconds[way] = _seconds(work)
        if place >= _WARM:
            for way, taken in seconds.items():
                found[way].append(1000 * taken)
    floors.close()
    return Times(found)


async def figures(bench: Bench) -> Figures:
    """``search_p50_ms`` and ``search_p99_ms`` by index and size, and ``recall_at_10`` of HNSW against exact."""
    texts = DrawnTexts(bench.data)
    questions = texts.questions[: _QUESTIONS + _WARM]
    answer: Figures = {}
    tables: list[tuple[str, int, Times]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tables += await _measured("embedded", folder, texts, questions, bench.sizes, None)
        answer["recall_at_10"] = await asyncio.to_thread(_recall, folder, texts, bench.sizes[-1])
    if bench.weaviate:
        tables += await _on_weaviate(bench, questions)
    for share, key in ((0.5, "search_p50_ms"), (0.99, "search_p99_ms")):
        answer[key] = {f"{index}_{size}": times.at(share) for index, size, times in tables}
    _told(tables)
    return answer


async def _measured(
    kind: str,
    folder: Path,
    texts: DrawnTexts,
    questions: Sequence[str],
    sizes: Sequence[int],
    elsewhere: Callable[[str], Index] | None,
) -> list[tuple[str, int, Times]]:
    embeddings = DrawnEmbeddings()
    found = []
    async with opened(folder, embeddings, elsewhere) as library:
        stock = Stock(library, texts, embeddings)
        for size in sizes:
            await stock.grow(size)
            found.append((kind, size, await timed(stock, folder, questions)))
    return found


async def _on_weaviate(bench: Bench, questions: Sequence[str]) -> list[tuple[str, int, Times]]:
    place = Path(tempfile.mkdtemp(prefix="trivium-weaviate-"))
    server = Weaviate(place)
    # It ends with the thread that starts it.
    server.start()
    opened_here: list[WeaviateIndex] = []

    def index(catalog: str) -> Index:
        opened_here.append(WeaviateIndex(server.server, catalog))
        return opened_here[-1]

    try:
        with tempfile.TemporaryDirectory() as name:
            texts = DrawnTexts(bench.data)
            return await _measured("weaviate", Path(name), texts, questions, bench.sizes, index)
    finally:
        for it in opened_here:
            await asyncio.to_thread(it.close)
        server.close()
        shutil.rmtree(place, ignore_errors=True)


def _recall(folder: Path, texts: DrawnTexts, chunks: int) -> float:
    """The share of the exact ten that the graph's candidates hold, over all questions."""
    embeddings = DrawnEmbeddings()
    index = EmbeddedIndex(folder / "graph.db", "recall", 2**30, exact_chunks=0)
    index.open()
    passages = list(texts.passages(chunks))
    rows = embeddings.vectors(passages)
    entries = [Entry(place, "", row.tobytes()) for place, row in enumerate(rows)]
    index.replace(1, entries, ())
    asked = embeddings.vectors(texts.questions[:_QUESTIONS]).astype(np.float32)
    index.nearest(1, asked[0], _RECALLED, None)
    index.settle(1)
    shares = []
    for vector in asked:
        exact = set(np.argsort(-(rows.astype(np.float32) @ vector), kind="stable")[:_RECALLED].tolist())
        shares.append(len(exact & set(index.nearest(1, vector, _RECALLED, None))) / _RECALLED)
    index.close()
    return round(statistics.mean(shares), 4)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _told(found: Sequence[tuple[str, int, Times]]) -> None:
    table = Table(title="Milliseconds a search, without the embedding of the question")
    for column in ("index", "chunks", "p50", "p99", "numpy p50", "FTS5 p50"):
        table.add_column(column, justify="left" if column == "index" else "right")
    for index, size, times in found:
        half, most = times.at(0.5), times.at(0.99)
        columns = (half["search"], most["search"], half["numpy"], half["fts5"])
        table.add_row(index, f"{size:,}", *(f"{each:.2f}" for each in columns))
    Console(width=max(150, Console().width)).print(table)
