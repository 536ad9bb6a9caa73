"""A word that stood in a document, in each place where one can, is in no row of any table once the document is deleted."""

import sqlite3
from contextlib import closing

import numpy as np
import pytest

from services.retriever.summaries.statements import Mode
from tests.unit.retriever.conftest import opened
from tests.unit.retriever.hashing import HashedEmbeddings
from tests.unit.retriever.summarising import request, summaries

CANARY = "zzyzxcanary"
TEXT = f"# {CANARY}\n\n## Part\n\nThe {CANARY} sings at night.\n\n" + f"Many {CANARY} words. " * 300


@pytest.fixture
def embeddings():
    return HashedEmbeddings()


def holding(path, needle):
    """The tables and columns of a database in which the needle stands in some row; FTS5's own tables are among them."""
    found = set()
    with closing(sqlite3.connect(path, timeout=30)) as database:
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for name in names:
            for _, column, *_ in database.execute(f'PRAGMA table_info("{name}")').fetchall():
                query = f'SELECT 1 FROM "{name}" WHERE instr(CAST("{column}" AS BLOB), CAST(? AS BLOB)) LIMIT 1'
                if database.execute(query, (needle,)).fetchone():
                    found.add((name, column))
    return found


def words(path, number):
    """What FTS5 would find, word by word."""
    with closing(sqlite3.connect(path, timeout=30)) as index:
        index.execute(f"CREATE VIRTUAL TABLE temp.words USING fts5vocab(main, keywords_{number}, row)")
        return {word for (word,) in index.execute("SELECT term FROM temp.words")}


@pytest.mark.parametrize("way", ["document", "collection"])
async def test_a_word_of_a_deleted_document_is_in_no_row_and_no_list(tmp_path, embeddings, way):
    catalog, keywords = tmp_path / "catalog.db", tmp_path / "index.db"
    async with opened(tmp_path, embeddings) as house:
        await house.create()
        await house.create("other")
        number = await house.collections.number("ada", "rules")
        if way == "document":
            await house.ingested("kept.md", "# Kept\n\nWords that stay.")
        named = {"title": f"The {CANARY}", "metadata": {"bird": CANARY}}
        await house.ingested(f"{CANARY}.md", TEXT, **named)
        await house.ingested(f"{CANARY}.md", TEXT.replace("night", "dawn"), **named)
        await house.ingested(f"{CANARY}.md", f"The {CANARY} is short.", **named)
        for mode in Mode:
            await summaries(house).summarize("ada", request(mode))
        assert {table for table, _ in holding(catalog, CANARY)} >= {
            "summary_nodes",
            "documents",
            "versions",
            "chunks",
            "document_values",
        }
        assert any(word.startswith("zzyzx") for word in words(keywords, number))
        if way == "document":
            await house.removal.document("ada", "rules", f"{CANARY}.md")
        else:
            await house.removal.collection("ada", "rules")
        assert holding(catalog, CANARY) == set()
        content = {table for table, _ in holding(keywords, CANARY)}
        assert not {table for table in content if not table.endswith("_data")}
        question = np.ones(16, dtype=np.float32)
        if way == "document":
            assert not [word for word in words(keywords, number) if word.startswith("zzyzx")]
            assert len(house.index.members(number)) == len(house.index.nearest(number, question, 1000, None)) == 1
        else:
            assert content == set()
            assert number not in house.index.collections()
        assert not house.index.keyword(number, (CANARY,), 10, None)
    with closing(sqlite3.connect(catalog)) as rows:
        counts = [rows.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("vectors", "vector_holds")]
    assert counts == [1 if way == "document" else 0, 0]
