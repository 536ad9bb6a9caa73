"""Every revision of the registry's schema, up and down, over rows: they survive and mean the same, in both worlds."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, Table, inspect, select

from services.chassis.database import make_engine, open_database
from services.registry import migrations
from services.registry.callers import Caller
from services.registry.manifests import version_id
from services.registry.models import Models
from services.registry.versions import Versions
from tests.conformance.registry_rows import STEPS, Rows
from tests.worlds import BUCKET, FOLDER

_BOOKKEEPING = {"alembic_version", "chassis_idempotency"}


@pytest.fixture(params=[FOLDER, BUCKET])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database, in both worlds."""
    if request.param == FOLDER:
        return f"sqlite:///{tmp_path}/registry.db"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def connection(url: str) -> Iterator[Connection]:
    engine = make_engine(url)
    with engine.connect() as opened:
        yield opened
    engine.dispose()


def script() -> ScriptDirectory:
    folder = str(Path(migrations.__path__[0]))
    return ScriptDirectory(folder, version_locations=[folder])


def revisions() -> list[str]:
    """Every revision, oldest first."""
    return [revision.revision for revision in reversed(list(script().walk_revisions()))]


def move(connection: Connection, steps: Callable[[ScriptDirectory, Any], Any]) -> None:
    """Run revisions as the service does: in one transaction, foreign keys off on SQLite while tables are rebuilt."""
    files = script()
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name == "sqlite":
        driver.execute("PRAGMA foreign_keys=OFF")
    with EnvironmentContext(Config(), files, fn=lambda revision, _: steps(files, revision)) as environment:
        with connection.begin():
            environment.configure(connection=connection, render_as_batch=True)
            environment.run_migrations()
    if connection.dialect.name == "sqlite":
        assert not driver.execute("PRAGMA foreign_key_check").fetchall()
        driver.execute("PRAGMA foreign_keys=ON")


def upgrade(connection: Connection, revision: str) -> None:
    move(connection, lambda files, present: files._upgrade_revs(revision, present))


def downgrade(connection: Connection, revision: str) -> None:
    move(connection, lambda files, present: files._downgrade_revs(revision, present))


def tables(connection: Connection) -> dict[str, Table]:
    """The tables as the database describes them now, parents before children."""
    found = MetaData()
    found.reflect(connection)
    connection.rollback()
    return {table.name: table for table in found.sorted_tables if table.name not in _BOOKKEEPING}


def insert(connection: Connection, rows: Rows) -> None:
    """Write rows by plain SQL; a table that they do not know or a column without a value fails."""
    described = tables(connection)
    assert set(rows) == set(described)
    with connection.begin():
        for name, table in described.items():
            for row in rows[name]:
                assert set(row) == set(table.columns.keys()), name
                connection.execute(table.insert().values(row))


def dump(connection: Connection) -> Rows:
    """Every row of every table."""
    with connection.begin():
        return {
            name: [dict(row._mapping) for row in connection.execute(select(table))]
            for name, table in tables_in(connection).items()
        }


def tables_in(connection: Connection) -> dict[str, Table]:
    found = MetaData()
    found.reflect(connection)
    return {name: table for name, table in found.tables.items() if name not in _BOOKKEEPING}


def ordered(rows: Rows) -> dict[str, list[list[tuple[str, Any]]]]:
    return {name: sorted((sorted(row.items()) for row in found), key=repr) for name, found in rows.items()}


def together(*parts: Rows) -> Rows:
    return {name: [row for part in parts for row in part.get(name, [])] for name in {*parts[0], *parts[-1]}}


def test_every_revision_has_its_rows_here():
    assert list(STEPS) == revisions(), "describe the new revision's rows in tests/conformance/registry_rows.py"


def test_rows_of_every_revision_survive_every_step_up_and_down(connection: Connection):
    expected: Rows = {}
    for revision, step in STEPS.items():
        upgrade(connection, revision)
        expected = step.up(expected)
        assert ordered(dump(connection)) == ordered(expected or dump(connection)), f"up to {revision}"
        new = step.new()
        insert(connection, new)
        expected = together(expected, new)
        assert all(expected.values()), f"no row shows what becomes of a table of {revision}"
    for revision, before in zip(reversed(STEPS), [*list(reversed(STEPS))[1:], "base"], strict=True):
        downgrade(connection, before)
        expected = STEPS[revision].down(expected)
        assert ordered(dump(connection)) == ordered(expected), f"down from {revision}"
        if before != "base":
            upgrade(connection, revision)
            assert ordered(dump(connection)) == ordered(STEPS[revision].up(expected)), f"up again to {revision}"
            downgrade(connection, before)
    assert set(inspect(connection).get_table_names()) <= _BOOKKEEPING


async def test_the_service_reads_what_every_revision_wrote(url: str):
    engine = make_engine(url)
    with engine.connect() as opened:
        for revision, step in STEPS.items():
            upgrade(opened, revision)
            insert(opened, step.new())
    engine.dispose()
    async with open_database(url, "services.registry.migrations", turn="registry") as database:
        for number in range(1, len(STEPS) + 1):
            caller = Caller(f"t{number}", "p")
            model = await Models(database, lambda: 0.0).get(caller, "fares")
            assert (model.description, dict(model.labels)) == ("Fares ⛴", {"team": "a"})
            version = await Versions(database, lambda: 0.0).get(caller, "fares", "1")
            assert version.version == version_id(version.manifest.canonical())
            assert [file.sha256 for file in version.manifest.files] == ["f" * 64]
