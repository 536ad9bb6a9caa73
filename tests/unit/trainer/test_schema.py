from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from services.chassis.database import make_engine, open_database
from services.trainer import migrations
from services.trainer.data.dataset_rows import find
from services.trainer.store import Base


async def test_the_revisions_build_the_schema_that_the_code_uses(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/trainer.db"
    async with open_database(url, "services.trainer.migrations"):
        pass
    with make_engine(url).connect() as connection:
        found = compare_metadata(
            MigrationContext.configure(
                connection, opts={"include_name": lambda name, *_: not str(name).startswith("chassis")}
            ),
            Base.metadata,
        )
    assert found == []


def moved(connection: Connection, steps: Callable[[ScriptDirectory, Any], Any]) -> None:
    """Run revisions as the service does, in one transaction."""
    folder = Path(migrations.__path__[0])
    script = ScriptDirectory(str(folder), version_locations=[str(folder / "versions")])
    with EnvironmentContext(Config(), script, fn=lambda revision, _: steps(script, revision)) as environment:
        with connection.begin():
            environment.configure(connection=connection, render_as_batch=True)
            environment.run_migrations()


def datasets(connection: Connection) -> list[tuple[str, str]]:
    with connection.begin():
        return [(row[0], row[1]) for row in connection.execute(text("SELECT dataset, digest FROM datasets ORDER BY 1"))]


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_datasets_of_earlier_releases_are_first_versions_and_versions_go_back_to_names(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/t.db" if kind == "sqlite" else str(request.getfixturevalue("postgres_url"))
    old = [("rows", "sha256:a"), ("rows-b1b2b3b4", "sha256:b")]
    values = "'f.jsonl', 'chat', 1, 2, 3, 4, 5"
    engine = make_engine(url)
    with engine.connect() as connection:
        moved(connection, lambda script, now: script._upgrade_revs("0002", now))
        with connection.begin():
            for place, (name, digest) in enumerate(old):
                row = f"INSERT INTO datasets VALUES ('acme', '{name}', '{digest}', {values}, {place})"
                connection.execute(text(row))
    async with open_database(url, "services.trainer.migrations") as database:
        for name, digest in old:
            found = await database.read(partial(find, tenant="acme", name=name))
            assert (found.dataset, found.version, found.digest) == (name, 1, digest)
    with engine.connect() as connection:
        with connection.begin():
            for key, version, digest, place in (("rows@2", 2, "sha256:c", 2), ("rows@3", 3, "sha256:a", 3)):
                row = f"('acme', '{key}', '{digest}', {values}, {place}, 'rows', {version})"
                columns = "tenant, dataset, digest, filename, format, rows, size_bytes, tokens, max_row_tokens"
                columns += ", supervised_tokens, created_at, name, version"
                connection.execute(text(f"INSERT INTO datasets ({columns}) VALUES {row}"))
        moved(connection, lambda script, now: script._downgrade_revs("0002", now))
        assert datasets(connection) == [("rows", "sha256:a"), ("rows-b1b2b3b4", "sha256:b"), ("rows@2", "sha256:c")]
    async with open_database(url, "services.trainer.migrations") as database:
        found = await database.read(partial(find, tenant="acme", name="rows@2"))
        assert found == await database.read(partial(find, tenant="acme", name="rows"))
        assert (found.dataset, found.version) == ("rows", 2)
    engine.dispose()
