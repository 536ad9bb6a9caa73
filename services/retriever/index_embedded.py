"""The embedded index: an FTS5 table a collection, vectors searched exactly.

Its file is a cache: it carries the id of the catalog that it was built from, and is
thrown away when that differs or the file is damaged.  Exact search needs no tuning and
no rebuild, and at 384 dimensions costs about 4 ms for 50,000 chunks on one core.
"""

import json
import sqlite3
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from services.retriever.fusion import ordered
from services.retriever.index import Entry, Vector
from services.retriever.keywords import fts_query, keyword_text
from services.retriever.vectors import Matrices, Matrix

# Bump when the tables or the tokenizer change: the index is then built anew.
_FORMAT = "3"
_SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE entries (
    collection INTEGER NOT NULL, chunk INTEGER NOT NULL, vector BLOB NOT NULL, PRIMARY KEY (collection, chunk)
) WITHOUT ROWID;
"""
# Marks count as letters: without them it would cut words of India and Thailand apart that keywords.py keeps whole.
_TOKENIZER = "porter unicode61 remove_diacritics 2 categories 'L* N* Co Mn Mc'"
# From here on, words that most chunks hold are left out of a search.
_MANY_CHUNKS = 1000
# More than asked for, so that a tie at the end is cut by our order and not by the engine's.
_TIES = 32


class EmbeddedIndex:
    """Implements :class:`services.retriever.index.Index` over one SQLite file.  Thread-safe."""

    def __init__(self, path: Path, catalog_id: str, cache_bytes: int) -> None:
        self._path = path
        self._identity = f"{_FORMAT} {catalog_id}"
        self._writing = threading.Lock()
        self._local = threading.local()
        self._opened: list[sqlite3.Connection] = []
        # Uses of connections that go on now.
        self._running = 0
        self._closed = False
        self._changed = threading.Condition()
        self._matrices = Matrices(cache_bytes, self._load)

    def open(self) -> bool:
        """Open the file, or begin a new one; whether it was there and fits.  Blocks."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        kept = self._fits()
        if not kept:
            for suffix in ("", "-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
            with closing(self._connect()) as connection:
                connection.executescript(_SCHEMA)
                connection.execute("INSERT INTO facts VALUES ('identity', ?)", (self._identity,))
        return kept

    def close(self) -> None:
        """Close every thread's connection, once what runs has ended; what comes later raises RuntimeError.

        A caller that was cancelled leaves its thread at work, and SQLite does not survive a connection that is closed
        under a statement.
        """
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not self._running)
            for connection in self._opened:
                connection.close()
            self._opened.clear()

    def replace(self, collection: int, add: Sequence[Entry], remove: Sequence[int]) -> None:
        """As the Protocol says."""
        gone = [(chunk,) for chunk in [*remove, *(entry.chunk for entry in add)]]
        # In ascending order FTS5 keeps one segment in memory; out of order it writes one a row.
        entries = sorted(add, key=lambda entry: entry.chunk)
        table = _table(collection)
        with self._transaction() as connection:
            connection.execute(
                f'CREATE VIRTUAL TABLE IF NOT EXISTS {table} USING fts5(text, tokenize = "{_TOKENIZER}")'
            )
            connection.executemany(f"DELETE FROM {table} WHERE rowid = ?", gone)  # noqa: S608  # see _table
            connection.executemany(
                "DELETE FROM entries WHERE collection = ? AND chunk = ?", ((collection, *chunk) for chunk in gone)
            )
            connection.executemany(
                f"INSERT INTO {table} (rowid, text) VALUES (?, ?)",  # noqa: S608  # see _table
                ((entry.chunk, keyword_text(entry.text)) for entry in entries),
            )
            connection.executemany(
                "INSERT INTO entries VALUES (?, ?, ?)",
                ((collection, entry.chunk, entry.vector) for entry in entries),
            )
        self._matrices.forget(collection)

    def drop(self, collection: int) -> None:
        """As the Protocol says."""
        with self._transaction() as connection:
            connection.execute(f"DROP TABLE IF EXISTS {_table(collection)}")
            connection.execute("DELETE FROM entries WHERE collection = ?", (collection,))
        self._matrices.forget(collection)

    def members(self, collection: int) -> frozenset[int]:
        """As the Protocol says."""
        query = "SELECT chunk FROM entries WHERE collection = ?"
        with self._connection() as connection:
            return frozenset(chunk for (chunk,) in connection.execute(query, (collection,)))

    def collections(self) -> frozenset[int]:
        """As the Protocol says."""
        query = "SELECT DISTINCT collection FROM entries"
        with self._connection() as connection:
            return frozenset(number for (number,) in connection.execute(query))

    def keyword(
        self, collection: int, words: tuple[str, ...], limit: int, allowed: Collection[int] | None
    ) -> Mapping[int, float]:
        """As the Protocol says."""
        if not words or not self._has(collection):
            return {}
        table = _table(collection)
        # The plus keeps the engine from looking every allowed row up by itself, which is 500 times slower.
        only = "" if allowed is None else "AND +rowid IN (SELECT value FROM json_each(:allowed))"
        query = (
            f"SELECT rowid, -bm25({table}) AS score FROM {table} WHERE {table} MATCH :words {only} "  # noqa: S608  # see _table
            "ORDER BY score DESC LIMIT :limit"
        )
        values = {
            "words": fts_query(self._telling(collection, words)),
            "allowed": json.dumps(sorted(allowed or ())),
            "limit": limit + _TIES,
        }
        with self._connection() as connection:
            found = dict(connection.execute(query, values))
        return {hit.chunk: hit.score for hit in ordered(found)[:limit]}

    def _telling(self, collection: int, words: tuple[str, ...]) -> tuple[str, ...]:
        """The words that at most half of the chunks hold, or all if there is none.

        The others add nothing to BM25 (FTS5 cuts their weight to a millionth) and take most of its time.
        """
        most = len(self._matrices.of(collection).chunks) // 2
        if most < _MANY_CHUNKS // 2:
            return words
        table = _table(collection)
        query = f"SELECT count(*) FROM (SELECT 1 FROM {table} WHERE {table} MATCH ? LIMIT ?)"  # noqa: S608  # see _table
        with self._connection() as connection:
            counts = {word: connection.execute(query, (fts_query((word,)), most + 1)).fetchone()[0] for word in words}
        return tuple(word for word in words if counts[word] <= most) or words

    def nearest(
        self, collection: int, vector: Vector, limit: int, allowed: Collection[int] | None
    ) -> Mapping[int, float]:
        """As the Protocol says."""
        matrix = self._matrices.of(collection)
        return (matrix if allowed is None else matrix.only(allowed)).nearest(vector, limit)

    def similarities(self, collection: int, vector: Vector, chunks: Collection[int]) -> Mapping[int, float]:
        """As the Protocol says."""
        return self._matrices.of(collection).only(chunks).nearest(vector, len(chunks))

    def _load(self, collection: int) -> Matrix:
        query = "SELECT chunk, vector FROM entries WHERE collection = ? ORDER BY chunk"
        with self._connection() as connection:
            return Matrix.of(connection.execute(query, (collection,)))

    def _has(self, collection: int) -> bool:
        query = "SELECT 1 FROM sqlite_master WHERE name = ?"
        with self._connection() as connection:
            return connection.execute(query, (_table(collection),)).fetchone() is not None

    def _fits(self) -> bool:
        """Whether the file is whole and built from this catalog."""
        if not self._path.exists():
            return False
        try:
            with closing(self._connect()) as connection:
                (state,) = connection.execute("PRAGMA quick_check(1)").fetchone()
                identity = connection.execute("SELECT value FROM facts WHERE name = 'identity'").fetchone()
        except sqlite3.DatabaseError:
            return False
        return bool(state == "ok" and identity == (self._identity,))

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=30, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        # What a power cut takes is put back from the catalog at the next start.
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL"):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """The thread's own connection, which stays open inside the block."""
        with self._changed:
            if self._closed:
                raise RuntimeError("the index is closed")
            self._running += 1
        try:
            connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._local.connection = self._connect()
                self._opened.append(connection)
            yield connection
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._writing, self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")


def _table(collection: int) -> str:
    # Nothing but a number of ours can come into a statement by this name.
    return f"keywords_{int(collection)}"
