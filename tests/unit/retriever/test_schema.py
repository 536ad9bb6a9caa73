from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from services.chassis.database import make_engine, open_database
from services.retriever import migrations, store_batches, store_generated, store_sources
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


def walked(connection, steps):
    """Run revisions as the service does, in one transaction."""
    folder = str(Path(migrations.__path__[0]))
    script = ScriptDirectory(folder, version_locations=[folder])
    with EnvironmentContext(Config(), script, fn=lambda revision, _: steps(script, revision)) as environment:
        with connection.begin():
            environment.configure(connection=connection, render_as_batch=True)
            environment.run_migrations()


async def test_every_collection_of_an_earlier_release_gets_a_version_of_its_own(tmp_path):
    url = f"sqlite:///{tmp_path}/retriever.db"
    with make_engine(url).connect() as connection:
        walked(connection, lambda script, now: script._upgrade_revs("0014", now))
        with connection.begin():
            for name in ("ferry", "rules"):
                row = f"('ada', '{name}', '', '', 0, 1, 0, 0.0)"
                columns = (
                    "tenant, collection, description, embedding_digest, vectors_computed, revision, change_sequence"
                )
                connection.execute(text(f"INSERT INTO collections ({columns}, created_at) VALUES {row}"))
    async with open_database(url, "services.retriever.migrations") as database:
        versions = await database.read(lambda session: list(session.scalars(text("SELECT version FROM collections"))))
    assert len(set(versions)) == 2
    assert {len(it) for it in versions} == {32}
    with make_engine(url).connect() as connection:
        walked(connection, lambda script, now: script._downgrade_revs("0014", now))
        assert len(connection.execute(text("SELECT * FROM collections")).all()) == 2
