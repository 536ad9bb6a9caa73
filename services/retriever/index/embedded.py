"""The embedded index: an FTS5 table a collection, vectors searched exactly, or by HNSW where there are very many.

Its file is a cache: it carries the id of the catalog that it was built from, and is
thrown away when that differs or the file is damaged.  Exact search needs no tuning and
no rebuild, and at 384 dimensions costs about 4 ms for 50,000 chunks on one core.
Invariant: a score is exact whichever way its chunk was found.
"""

import json
import shutil
import sqlite3
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from services.retriever.index.graphs import Change, Graphs
from services.retriever.index.index import Entry, Frequencies, Vector, collective, counted_to
from services.retriever.index.vectors import Block, Matrices, Matrix
from services.retriever.search.fusion import ordered
from services.retriever.text.keywords import fts_query, keyword_text, most_holders
from services.retriever.text.tokens import TOKENIZE, Tokens, entry_digest

# Bump when the tables or the tokenizer change: the index is then built anew.
_FORMAT = "4"
_SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE entries (
    collection INTEGER NOT NULL, chunk INTEGER NOT NULL, vector BLOB NOT NULL, PRIMARY KEY (collection, chunk)
) WITHOUT ROWID;
CREATE TABLE generations (collection INTEGER PRIMARY KEY, generation INTEGER NOT NULL, chunks INTEGER NOT NULL);
"""
# More than asked for, so that a tie at the end is cut by our order and not by the engine's.
_TIES = 32
# Candidates of a graph for each row that is wanted; they are scored exactly, and the best are taken.
_CANDIDATES = 4
# Up to so many chunks are read one by one where their collection's vectors are not in memory.
_FEW = 2_000


class EmbeddedIndex:
    """Implements :class:`services.retriever.index.index.Index` over one SQLite file.  Thread-safe."""

    def __init__(self, path: Path, catalog_id: str, cache_bytes: int, exact_chunks: int = 200_000) -> None:
        """Collections of more than ``exact_chunks`` are searched by HNSW; ``cache_bytes`` bound the exact ones."""
        self._path = path
        self._identity = f"{_FORMAT} {catalog_id}"
        self._writing = threading.RLock()
        self._local = threading.local()
        self._opened: list[sqlite3.Connection] = []
        # Uses of connections that go on now.
        self._running = 0
        self._closed = False
        self._changed = threading.Condition()
        self._matrices = Matrices(cache_bytes, self._load)
        self._exact_chunks = exact_chunks
        self._graphs = Graphs(path.with_name(f"{path.name}-graphs"), self._read, self._generation)
        self._tokens = Tokens()

    def open(self) -> bool:
        """Open the file, or begin a new one; whether it was there and fits.  Blocks."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        kept = self._fits()
        if not kept:
            for suffix in ("", "-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
            shutil.rmtree(self._graphs.folder, ignore_errors=True)
            with closing(self._connect()) as connection:
                connection.executescript(_SCHEMA)
                connection.execute("INSERT INTO facts VALUES ('identity', ?)", (self._identity,))
        return kept

    def close(self) -> None:
        """Close every thread's connection, once what runs has ended; what comes later raises RuntimeError.

        A caller that was cancelled leaves its thread at work, and SQLite does not survive a connection that is closed
        under a statement.
        """
        self._graphs.close()
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not self._running)
            for connection in self._opened:
                connection.close()
            self._opened.clear()

    def replace(self, collection: int, add: Sequence[Entry], remove: Sequence[int]) -> None:
        """As the Protocol says."""
        added = {entry.chunk: entry.vector for entry in add}
        with self._writing:
            with self._transaction() as connection:
                generation = _write(connection, collection, add, remove)
            # Behind the commit, and before the next change: what is in memory follows in the same order.
            self._matrices.change(collection, list(added.items()), remove)
            self._graphs.change(collection, Change(generation, added, remove))

    def drop(self, collection: int) -> None:
        """As the Protocol says."""
        with self._writing:
            with self._transaction() as connection:
                connection.execute(f"DROP TABLE IF EXISTS {_table(collection)}")
                gone = connection.execute("DELETE FROM entries WHERE collection = ?", (collection,)).rowcount
                # Its generation goes on rising, so that no graph of the dropped one can fit.
                _count(connection, collection, -gone)
            self._matrices.forget(collection)
            self._graphs.forget(collection)

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

    def holders(self, collection: int, word: str) -> frozenset[int]:
        """As the Protocol says."""
        if not self._has(collection):
            return frozenset()
        table = _table(collection)
        query = f"SELECT rowid FROM {table} WHERE {table} MATCH ?"  # noqa: S608  # see _table
        with self._connection() as connection:
            return frozenset(chunk for (chunk,) in connection.execute(query, (fts_query((word,)),)))

    def _telling(self, collection: int, words: tuple[str, ...]) -> tuple[str, ...]:
        """The words that tell chunks apart: those that too many hold take most of the time and add nothing."""
        _, chunks = self._state(collection)
        most = most_holders(chunks)
        if most is None:
            return words
        counts = self._counts(collection, words, chunks)
        return tuple(word for word in words if counts[word] <= most) or words

    def frequencies(self, collection: int, words: Sequence[str]) -> Frequencies:
        """As the Protocol says."""
        if not self._has(collection):
            return Frequencies(0, dict.fromkeys(words, 0))
        _, chunks = self._state(collection)
        return Frequencies(chunks, self._counts(collection, words, chunks))

    def _counts(self, collection: int, words: Sequence[str], chunks: int) -> dict[str, int]:
        """In how many chunks each word is, no further than from where on it tells nothing apart."""
        table = _table(collection)
        query = f"SELECT count(*) FROM (SELECT 1 FROM {table} WHERE {table} MATCH ? LIMIT ?)"  # noqa: S608  # see _table
        most = counted_to(chunks)
        with self._connection() as connection:
            return {word: connection.execute(query, (fts_query((word,)), most)).fetchone()[0] for word in words}

    def nearest(
        self, collection: int, vector: Vector, limit: int, allowed: Collection[int] | None
    ) -> Mapping[int, float]:
        """As the Protocol says."""
        generation, chunks = self._state(collection)
        # Where a filter leaves less than half, to score what it leaves is cheaper than to look past what it does not.
        if chunks > self._exact_chunks and (allowed is None or 2 * len(allowed) > chunks):
            found = self._approximate(collection, generation, vector, limit, allowed)
            if found is not None:
                return found
        if allowed is not None:
            return self._rows(collection, allowed).nearest(vector, limit)
        return self._matrices.of(collection).nearest(vector, limit)

    def _approximate(
        self, collection: int, generation: int, vector: Vector, limit: int, allowed: Collection[int] | None
    ) -> Mapping[int, float] | None:
        """The graph's candidates, scored exactly; None without a graph, or where a filter left too few of them."""
        wanted = (limit + _TIES) * _CANDIDATES * (1 if allowed is None else 2)
        candidates = self._graphs.candidates(collection, generation, vector, wanted)
        if candidates is None:
            return None
        kept = candidates if allowed is None else [chunk for chunk in candidates if chunk in allowed]
        if len(kept) < min(limit + _TIES, len(candidates)):
            return None
        return self._rows(collection, kept).nearest(vector, limit)

    def similarities(self, collection: int, vector: Vector, chunks: Collection[int]) -> Mapping[int, float]:
        """As the Protocol says."""
        return self._rows(collection, chunks).nearest(vector, len(chunks))

    def digest(self, collection: int) -> str:
        """As the Protocol says."""
        if not self._has(collection):
            return collective(())
        table = _table(collection)
        query = f"SELECT chunk, text, vector FROM entries LEFT JOIN {table} ON rowid = chunk WHERE collection = ?"  # noqa: S608  # see _table
        digests: list[bytes] = []
        with self._connection() as connection:
            rows = connection.execute(query, (collection,))
            while some := rows.fetchmany(_FEW):
                tokens = self._tokens.of([text or "" for _, text, _ in some])
                digests += [entry_digest(it[0], words, it[2]) for it, words in zip(some, tokens, strict=True)]
        return collective(digests)

    def settle(self, collection: int) -> None:
        """Wait until a graph that is built is ready.  Blocks."""
        self._graphs.wait(collection)

    def _load(self, collection: int) -> Matrix:
        query = "SELECT chunk, vector FROM entries WHERE collection = ?"
        with self._connection() as connection:
            return Matrix.of(connection.execute(query, (collection,)))

    def _rows(self, collection: int, chunks: Collection[int]) -> Matrix:
        """The rows of these chunks: one by one, where they are few among many."""
        _, held = self._state(collection)
        if held <= self._exact_chunks or len(chunks) > _FEW:
            return self._matrices.of(collection).only(chunks)
        query = (
            "SELECT chunk, vector FROM entries WHERE collection = :collection "
            "AND chunk IN (SELECT value FROM json_each(:chunks))"
        )
        with self._connection() as connection:
            return Matrix.of(connection.execute(query, {"collection": collection, "chunks": json.dumps([*chunks])}))

    @contextmanager
    def _read(self, collection: int) -> Iterator[tuple[int, Iterator[Block]]]:
        """Every row and its generation, of one moment."""
        query = "SELECT chunk, vector FROM entries WHERE collection = ?"
        with self._connection() as connection:
            connection.execute("BEGIN")
            try:
                generation, _ = _state(connection, collection)
                rows = connection.execute(query, (collection,))
                yield generation, (Block.of(some) for some in iter(lambda: rows.fetchmany(_FEW), []))
            finally:
                connection.execute("COMMIT")

    def _state(self, collection: int) -> tuple[int, int]:
        with self._connection() as connection:
            return _state(connection, collection)

    def _generation(self, collection: int) -> int:
        return self._state(collection)[0]

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


def _write(connection: sqlite3.Connection, collection: int, add: Sequence[Entry], remove: Sequence[int]) -> int:
    """Write a change; the collection's generation behind it."""
    gone = [(chunk,) for chunk in [*remove, *(entry.chunk for entry in add)]]
    # In ascending order FTS5 keeps one segment in memory; out of order it writes one a row.
    entries = sorted(add, key=lambda entry: entry.chunk)
    table = _table(collection)
    connection.execute(f'CREATE VIRTUAL TABLE IF NOT EXISTS {table} USING fts5(text, tokenize = "{TOKENIZE}")')
    connection.executemany(f"DELETE FROM {table} WHERE rowid = ?", gone)  # noqa: S608  # see _table
    gone_by = connection.executemany(
        "DELETE FROM entries WHERE collection = ? AND chunk = ?", ((collection, *chunk) for chunk in gone)
    )
    connection.executemany(
        f"INSERT INTO {table} (rowid, text) VALUES (?, ?)",  # noqa: S608  # see _table
        ((entry.chunk, keyword_text(entry.text)) for entry in entries),
    )
    connection.executemany(
        "INSERT INTO entries VALUES (?, ?, ?)", ((collection, entry.chunk, entry.vector) for entry in entries)
    )
    return _count(connection, collection, len(entries) - max(0, gone_by.rowcount))


def _count(connection: sqlite3.Connection, collection: int, more: int) -> int:
    """The collection has changed and has so many chunks more; its generation."""
    connection.execute(
        "INSERT INTO generations VALUES (:collection, 1, :more) ON CONFLICT (collection) "
        "DO UPDATE SET generation = generation + 1, chunks = chunks + :more",
        {"collection": collection, "more": more},
    )
    return _state(connection, collection)[0]


def _state(connection: sqlite3.Connection, collection: int) -> tuple[int, int]:
    """Generation and chunks of a collection."""
    query = "SELECT generation, chunks FROM generations WHERE collection = ?"
    generation, chunks = connection.execute(query, (collection,)).fetchone() or (0, 0)
    return int(generation), int(chunks)


def _table(collection: int) -> str:
    # Nothing but a number of ours can come into a statement by this name.
    return f"keywords_{int(collection)}"
