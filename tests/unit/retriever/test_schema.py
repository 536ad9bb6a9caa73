from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from services.chassis.database import make_engine, open_database
from services.retriever import store_batches, store_generated, store_sources
from services.retriever.store import Base

assert store_batches
assert store_generated  # their tables are the catalog's too
assert store_sources


async def test_the_revisions_build_the_schema_that_the_code_uses(tmp_path):
    url = f"sqlite:///{tmp_path}/retriever.db"
    async with open_database(url, "services.retriever.migrations"):
        pass
    ours = {"include_name": lambda name, *_: not str(name).startswith("chassis")}
    with make_engine(url).connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts=ours), Base.metadata) == []
