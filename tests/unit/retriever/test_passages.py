"""What a search reads of the catalog costs what it found, not what the tenant has."""

import pytest
from sqlalchemy import event

from services.retriever.search import passages
from services.retriever.search.question import Ranked

# More than the few numbers from which on SQLite would rather read all of the tenant's chunks.
MANY = list(range(1, 301))


def _hits(session, tenant, chunks):
    order = [Ranked(chunk, 1.0, dense=None, sparse=None) for chunk in chunks]
    return passages.hits(session, tenant, order, (), len(order))


@pytest.fixture
def catalog_url():
    return ""


@pytest.mark.parametrize(
    "read", [passages.materials, passages.document_numbers, passages.documents, passages.vectors, _hits]
)
async def test_chunks_are_read_by_their_numbers(house, read):
    asked = []

    def explained(session):
        engine = session.get_bind()
        event.listen(engine, "before_cursor_execute", lambda *it: asked.append((it[2], it[3])))
        read(session, "ada", MANY)
        connection = session.connection().connection.cursor()
        return [
            row[3] for sql, values in list(asked) for row in connection.execute("EXPLAIN QUERY PLAN " + sql, values)
        ]

    plan = await house.database.read(explained)
    assert [step for step in plan if "chunks" in step] == ["SEARCH chunks USING INTEGER PRIMARY KEY (rowid=?)"]
