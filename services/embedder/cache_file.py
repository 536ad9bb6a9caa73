"""Vectors on disk: one SQLite file that may be lost at any time and must never be believed when damaged.

Nothing here is awaited by a durable promise, so nothing is synced; what a power cut or a bad
block leaves behind is found by the seal of each row, or by SQLite, and thrown away.
Invariant: no call raises for the state of the disk; a vector comes back with the bits
that it was kept with, or not at all; the file's pages stay within the limit, oldest used first out.
"""

import hashlib
import hmac
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from services.embedder.batching import Vector

_VERSION = 1
_SCHEMA = """
CREATE TABLE vectors (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,
    used INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    seal BLOB NOT NULL,
    vector BLOB NOT NULL
);
CREATE INDEX vectors_used ON vectors (used, id);
"""
# Variables of one statement.
_AT_ONCE = 256
# A row that was used less long ago is not written for being used again.
_TOUCH_SECONDS = 60
# Evicting goes on to this part of the limit, so that it is done once for many rows.
_KEPT_PART = 0.95
_BUSY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Kept:
    """A vector [dimensions] in float32, as computed, and the tokens of its whole text."""

    vector: Vector
    tokens: int


@dataclass(slots=True)
class FileCounters:
    """What happened to the file since the start; ``bytes`` is what its used pages take."""

    bytes: int = 0
    evicted: int = 0
    errors: int = 0
    discarded: int = 0


# Told what was wrong with the disk or the file.
Report = Callable[[str], None]


@dataclass(slots=True)
class VectorFile:
    """The file at ``path``, of at most ``limit_bytes``.  All methods block, and are called from one thread."""

    path: Path
    secret: bytes
    limit_bytes: int
    clock: Callable[[], float] = time.time
    report: Report = lambda _: None
    counters: FileCounters = field(default_factory=FileCounters)
    _connection: sqlite3.Connection | None = None

    def open(self) -> None:
        """Open or make the file; one that is damaged or of another version is thrown away."""
        with self._trouble():
            self._connect()
            self._evict()

    def close(self) -> None:
        """Let go of the file."""
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
        self._connection = None

    def find(self, keys: Sequence[bytes]) -> Mapping[bytes, Kept]:
        """What is kept under ``keys``; what is missing, or cannot be read, is left out."""
        found: dict[bytes, Kept] = {}
        with self._trouble():
            connection, now, touched = self._ready(), int(self.clock()), []
            for first in range(0, len(keys), _AT_ONCE):
                some = keys[first : first + _AT_ONCE]
                marks = ",".join("?" * len(some))
                rows = connection.execute(
                    f"SELECT key, used, tokens, seal, vector FROM vectors WHERE key IN ({marks})",  # noqa: S608 only question marks are put in
                    some,
                )
                for key, used, tokens, seal, packed in rows:
                    if not hmac.compare_digest(seal, self._seal(key, tokens, packed)):
                        raise sqlite3.DatabaseError("a row does not bear its seal")
                    found[key] = Kept(np.frombuffer(packed, dtype="<f4").astype(np.float32), tokens)
                    if abs(now - used) >= _TOUCH_SECONDS:
                        touched.append((now, key))
            if touched:
                with connection:
                    connection.executemany("UPDATE vectors SET used = ? WHERE key = ?", touched)
        return found

    def keep(self, entries: Mapping[bytes, Kept]) -> None:
        """Add entries, and evict what is too much."""
        now = int(self.clock())
        with self._trouble():
            rows = []
            for key, kept in entries.items():
                packed = kept.vector.astype("<f4", copy=False).tobytes()
                rows.append((key, now, kept.tokens, self._seal(key, kept.tokens, packed), packed))
            connection = self._ready()
            with connection:
                connection.executemany(
                    "INSERT INTO vectors (key, used, tokens, seal, vector) VALUES (?, ?, ?, ?, ?) "
                    "ON CONFLICT (key) DO NOTHING",
                    rows,
                )
            self._evict()

    def _seal(self, key: bytes, tokens: int, packed: bytes) -> bytes:
        told = hashlib.blake2b(key, digest_size=16, key=self.secret)
        told.update(tokens.to_bytes(8, "little"))
        told.update(packed)
        return told.digest()

    def _ready(self) -> sqlite3.Connection:
        return self._connection or self._connect()

    def _connect(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise sqlite3.OperationalError(str(error)) from error
        # Opened, used and closed in whichever thread is the cache's.
        connection = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, check_same_thread=False)
        self._connection = connection
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(f"PRAGMA journal_size_limit = {4 * 1024 * 1024}")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not tables:
            connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")
        elif version != _VERSION:
            raise sqlite3.DatabaseError(f"version {version}")
        return connection

    def _evict(self) -> None:
        connection = self._ready()
        self.counters.bytes = self._used_bytes(connection)
        if self.counters.bytes <= self.limit_bytes:
            return
        while self.counters.bytes > self.limit_bytes * _KEPT_PART:
            with connection:
                gone = connection.execute(
                    "DELETE FROM vectors WHERE id IN (SELECT id FROM vectors ORDER BY used, id LIMIT ?)", (_AT_ONCE,)
                ).rowcount
            self.counters.evicted += gone
            self.counters.bytes = self._used_bytes(connection)
            if not gone:
                break
        connection.execute("PRAGMA incremental_vacuum").fetchall()

    def _used_bytes(self, connection: sqlite3.Connection) -> int:
        pages, free, size = (
            int(connection.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size

    @contextmanager
    def _trouble(self) -> Iterator[None]:
        """A disk that is full or cannot be written does without; a file that is damaged goes."""
        try:
            yield
        except sqlite3.OperationalError as error:
            self.counters.errors += 1
            self.report(str(error))
            self.close()
        except sqlite3.DatabaseError as error:
            self.counters.discarded += 1
            self.report(str(error))
            self._discard()

    def _discard(self) -> None:
        self.close()
        with suppress(OSError):
            for suffix in ("", "-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
