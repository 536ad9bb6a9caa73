"""The words of a text as the keyword index sees them: folded, without accents, stemmed.

FTS5 itself is asked, in memory, so that an index that is no FTS5 holds the very same words.
Invariant: equal texts give equal tokens on every index.
"""

import hashlib
import sqlite3
import threading
from collections.abc import Iterable, Sequence

from services.retriever.index.index import Entry
from services.retriever.text.keywords import keyword_text

# Marks count as letters: without them it would cut words of India and Thailand apart that ``keywords`` keeps whole.
TOKENIZE = "porter unicode61 remove_diacritics 2 categories 'L* N* Co Mn Mc'"
_SCHEMA = f"""
CREATE VIRTUAL TABLE texts USING fts5(text, tokenize = "{TOKENIZE}", content = '');
CREATE VIRTUAL TABLE tokens USING fts5vocab(texts, 'instance');
"""


class Tokens:
    """Texts to tokens.  Thread-safe; a connection a thread, which holds nothing between two calls."""

    def __init__(self) -> None:
        self._local = threading.local()

    def of(self, texts: Sequence[str]) -> list[list[str]]:
        """The tokens of each keyword text, in its order."""
        found: list[list[str]] = [[] for _ in texts]
        connection = self._connection()
        connection.executemany("INSERT INTO texts (rowid, text) VALUES (?, ?)", enumerate(texts))
        try:
            for row, token in connection.execute("SELECT doc, term FROM tokens ORDER BY doc, offset"):
                found[row].append(token)
        finally:
            connection.execute("INSERT INTO texts (texts) VALUES ('delete-all')")
        return found

    def digests(self, entries: Iterable[Entry]) -> list[bytes]:
        """A digest of each entry: its chunk, its tokens, its vector."""
        given = list(entries)
        tokens = self.of([keyword_text(entry.text) for entry in given])
        return [entry_digest(entry.chunk, found, entry.vector) for entry, found in zip(given, tokens, strict=True)]

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = sqlite3.connect(":memory:", isolation_level=None)
            connection.executescript(_SCHEMA)
        return connection


def entry_digest(chunk: int, tokens: Sequence[str], vector: bytes) -> bytes:
    """What an index holds of one chunk."""
    words = hashlib.sha256(" ".join(tokens).encode()).digest()
    return hashlib.sha256(chunk.to_bytes(8, "big") + words + vector).digest()
