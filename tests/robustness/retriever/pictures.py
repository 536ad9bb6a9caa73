"""All that can be seen of a catalog and its index: two equal pictures are two equal libraries."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from tests.robustness.retriever.hashed import vector
from tests.robustness.retriever.kinds import Kind
from tests.robustness.retriever.sequences import WORDS

_QUESTIONS = ("what does the ferry cost", "Part 3", "rules of the harbour")
_TABLES = {
    "documents": "SELECT document, title, given_title, serving_version, newest_version, state, chunks FROM documents "
    "WHERE collection_number = ? ORDER BY 1",
    "texts": "SELECT d.document, v.version, v.text FROM documents d JOIN versions v ON v.document_number = d.number "
    "AND v.version = d.serving_version WHERE d.collection_number = ? ORDER BY 1",
    "chunks": 'SELECT c.chunk, d.document, c.version, c.start, c."end", c.text, c.context, c.heading_path_json, '
    "hex(c.text_digest) FROM chunks c JOIN documents d ON d.number = c.document_number "
    "WHERE c.collection_number = ? ORDER BY 1",
    "metadata": "SELECT d.document, m.name, m.text FROM document_values m JOIN documents d "
    "ON d.number = m.document_number WHERE m.collection_number = ? ORDER BY 1, 2",
}
_LEFT_BEHIND = (
    "SELECT count(*) FROM vectors v WHERE NOT EXISTS (SELECT 1 FROM chunks c WHERE c.text_digest = v.text_digest) "
    "AND NOT EXISTS (SELECT 1 FROM vector_holds h WHERE h.text_digest = v.text_digest)",
    "SELECT count(*) FROM vector_holds h WHERE NOT EXISTS (SELECT 1 FROM documents d WHERE d.number = h.holder)",
    "SELECT count(*) FROM chunks c WHERE NOT EXISTS (SELECT 1 FROM vectors v WHERE c.text_digest = v.text_digest)",
)


async def picture(folder: Path, index: Any, kind: Kind) -> dict[str, Any]:
    """Rows, members, every score of every word and question to the bit, and the index's inside."""
    found: dict[str, Any] = {}
    with closing(sqlite3.connect(folder / "catalog.db", timeout=30)) as catalog:
        collections = dict(catalog.execute("SELECT collection, number FROM collections"))
        for collection, number in collections.items():
            rows = {name: catalog.execute(query, (number,)).fetchall() for name, query in _TABLES.items()}
            found[collection] = {**rows, **_answers(index, number), "inside": kind.inside(folder, number)}
        found["left behind"] = [catalog.execute(query).fetchone()[0] for query in _LEFT_BEHIND]
    return found


def _answers(index: Any, number: int) -> dict[str, Any]:
    near = {
        question: index.nearest(number, np.frombuffer(vector(question), "<f2").astype("f4"), 1000, None)
        for question in _QUESTIONS
    }
    words = {word: index.keyword(number, (word,), 1000, None) for word in (*WORDS, "part", "rule", "crowns")}
    return {
        "members": sorted(index.members(number)),
        "near": {question: list(hits.items()) for question, hits in near.items()},
        "words": {word: list(hits.items()) for word, hits in words.items()},
    }
