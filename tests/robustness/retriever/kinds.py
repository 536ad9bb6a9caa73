"""The kinds of index that sequences run over, and what is read of each beside what its Protocol answers."""

import asyncio
import sqlite3
import urllib.request
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from services.retriever.index import places, weaviate_shelf
from services.retriever.index.embedded import EmbeddedIndex
from services.retriever.index.index import Entry
from services.retriever.index.weaviate import WeaviateIndex
from services.retriever.index.weaviate_schema import VECTOR, class_of


@dataclass(frozen=True)
class Kind:
    """An index in a folder, or for a folder on a server, as sequences use it.

    ``opened`` takes the folder, its catalog's id and what is called at each step inside of a
    change; ``inside`` says what the index really holds of a collection, in plain values;
    ``forgotten`` leaves nothing of a folder that is to go.
    """

    kind: places.Kind
    opened: Callable[[Path, str, Callable[[str], None]], AbstractAsyncContextManager[Any]]
    inside: Callable[[Path, int], Any]
    forgotten: Callable[[Path], None]


def kind_at(server: places.Server | None) -> Kind:
    """The index on this server; without one the embedded index."""
    if server is None:
        return Kind(places.Kind.EMBEDDED, _embedded, _inside_embedded, lambda _: None)
    remote = OnWeaviate(server)
    return Kind(places.Kind.WEAVIATE, remote.opened, remote.inside, remote.forgotten)


@asynccontextmanager
async def _embedded(folder: Path, catalog_id: str, _: Callable[[str], None]) -> AsyncIterator[EmbeddedIndex]:
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


@dataclass(frozen=True)
class OnWeaviate:
    """The index of catalogs on a Weaviate server, each a Weaviate collection of its own."""

    server: places.Server

    @asynccontextmanager
    async def opened(self, _: Path, catalog_id: str, passed: Callable[[str], None]) -> AsyncIterator[WeaviateIndex]:
        """The index; the server has no transactions, so a life may also end between two of a change's requests."""
        insert = weaviate_shelf.Shelf._insert

        def stepped(shelf: Any, shard: Any, collection: int, entries: Sequence[Entry]) -> None:
            # One object a request.
            for entry in entries:
                passed("index changed in part")
                insert(shelf, shard, collection, [entry])

        index = WeaviateIndex(self.server, catalog_id)
        with patch.object(weaviate_shelf.Shelf, "_insert", stepped):
            try:
                yield index
            finally:
                await asyncio.to_thread(index.close)

    def inside(self, folder: Path, collection: int) -> Any:
        """Every object's chunk, words and vector: its own id follows from the catalog's, and differs from build to build."""
        index = WeaviateIndex(self.server, _catalog_id(folder))
        try:
            return index._ask(lambda shelf: _objects(shelf, collection))
        finally:
            index.close()

    def forgotten(self, folder: Path) -> None:
        """Delete the catalog's Weaviate collection."""
        catalog_id = _catalog_id(folder)
        if not catalog_id:
            return
        address = f"{self.server.url}/v1/schema/{class_of(catalog_id)}"
        allowed = {"Authorization": f"Bearer {self.server.api_key}"}
        with urllib.request.urlopen(urllib.request.Request(address, headers=allowed, method="DELETE"), timeout=30):
            pass


def _objects(shelf: weaviate_shelf.Shelf, collection: int) -> Any:
    shard = shelf._shard(collection)
    if shard is None:
        return []
    held = shard.iterator(include_vector=True)
    return sorted(
        [it.properties["chunk"], it.properties["words"], it.properties["length"], it.vector[VECTOR]] for it in held
    )


def _catalog_id(folder: Path) -> str:
    """Empty where no life came so far as to make one."""
    if not (folder / "catalog.db").exists():
        return ""
    with closing(sqlite3.connect(folder / "catalog.db", timeout=30)) as catalog:
        if not catalog.execute("SELECT 1 FROM sqlite_master WHERE name = 'facts'").fetchone():
            return ""
        row = catalog.execute("SELECT value FROM facts WHERE name = 'catalog_id'").fetchone()
        return str(row[0]) if row else ""
