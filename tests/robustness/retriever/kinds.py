"""The kinds of index that sequences run over, and what is read of each beside what its Protocol answers."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.retriever.index.embedded import EmbeddedIndex


@dataclass(frozen=True)
class Kind:
    """How an index is opened in a folder for a catalog, and what is inside of it for a collection, in plain values."""

    opened: Callable[[Path, str], AbstractAsyncContextManager[Any]]
    inside: Callable[[Path, int], Any]


@asynccontextmanager
async def _embedded(folder: Path, catalog_id: str) -> AsyncIterator[EmbeddedIndex]:
    index = EmbeddedIndex(folder / "index.db", catalog_id, 64 * 1024**2)
    await asyncio.to_thread(index.open)
    try:
        yield index
    finally:
        await asyncio.to_thread(index.close)


def _inside_embedded(folder: Path, collection: int) -> Any:
    """Vectors, and the postings with where each word stands, as FTS5 itself reads them, and its count of chunks."""
    table = f"keywords_{collection}"
    with closing(sqlite3.connect(folder / "index.db", timeout=30)) as index:
        vectors = index.execute("SELECT chunk, hex(vector) FROM entries WHERE collection = ? ORDER BY 1", (collection,))
        held = {"vectors": vectors.fetchall()}
        if not index.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone():
            return {**held, "postings": [], "lengths": [], "chunks": 0}
        index.execute(f"INSERT INTO {table}({table}) VALUES ('integrity-check')")
        index.execute(f"CREATE VIRTUAL TABLE temp.words USING fts5vocab(main, {table}, instance)")
        return {
            **held,
            "postings": index.execute("SELECT term, doc, offset FROM temp.words ORDER BY 1, 2, 3").fetchall(),
            "lengths": index.execute(f"SELECT id, hex(sz) FROM {table}_docsize ORDER BY 1").fetchall(),
            "chunks": index.execute(f"SELECT count(*) FROM {table}").fetchone()[0],
        }


KINDS: Mapping[str, Kind] = {"embedded": Kind(_embedded, _inside_embedded)}
