"""The trainer's schema from the first release on, up and down, over rows: what was there is read and goes on."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, Table, select

from services.chassis import process_identity
from services.chassis.database import make_engine, open_database
from services.trainer import migrations
from services.trainer.data.dataset_rows import find
from services.trainer.job import State
from services.trainer.jobs import Jobs
from services.trainer.leases import Leases
from services.trainer.settings import Method, Settings
from tests.worlds import BUCKET, FOLDER

# As the first release stored them.
SETTINGS = {
    "method": "rslora",
    "rank": 8,
    "alpha": 16.0,
    "dropout": 0.0,
    "target_modules": ["q_proj"],
    "epochs": 2,
    "batch_rows": 4,
    "learning_rate": 0.001,
    "warmup_ratio": 0.05,
    "schedule": "cosine",
    "weight_decay": 0.0,
    "max_gradient_norm": 1.0,
    "max_row_tokens": 512,
    "seed": 3,
    "checkpoint_steps": 20,
    "max_steps": 0,
}
ORDER = {
    "model": "m",
    "dataset": "rows",
    "dataset_digest": "sha256:d",
    "base": "tiny",
    "base_digest": "sha256:b",
    "settings": SETTINGS,
    "alias": "prod",
    "base_version": "",
}
PROGRESS = {"step": 3, "total_steps": 6, "trained_tokens": 90, "loss": 0.5}
DATASET = {
    "tenant": "acme",
    "dataset": "rows",
    "digest": "sha256:d",
    "filename": "rows.jsonl",
    "format": "chat",
    "rows": 10,
    "size_bytes": 100,
    "tokens": 50,
    "max_row_tokens": 9,
    "supervised_tokens": 20,
    "created_at": 1.0,
}
EVENT = {
    "tenant": "acme",
    "job": "j",
    "sequence": 1,
    "kind": "step",
    "state": "running",
    "progress_json": json.dumps(PROGRESS),
    "learning_rate": 0.001,
    "gradient_norm": 0.7,
    "message": "",
    "created_at": 4.0,
}
JOB = {
    "tenant": "acme",
    "job": "j",
    "principal": "ada",
    "dataset_digest": "sha256:d",
    "order_json": json.dumps(ORDER),
    "progress_json": json.dumps(PROGRESS),
    "state": "running",
    "version": "",
    "error_reason": "",
    "error_message": "",
    "attempts": 1,
    "crashes": 0,
    "sequence": 1,
    "created_at": 2.0,
    "queued_at": 2.0,
    "started_at": 3.0,
    "ended_at": None,
}
ROWS = {"datasets": [DATASET], "jobs": [JOB], "events": [EVENT]}


@pytest.fixture(params=[FOLDER, BUCKET])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database, in both worlds."""
    if request.param == FOLDER:
        return f"sqlite:///{tmp_path}/trainer.db"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def connection(url: str) -> Iterator[Connection]:
    engine = make_engine(url)
    with engine.connect() as opened:
        yield opened
    engine.dispose()


def move(connection: Connection, steps: Callable[[ScriptDirectory, Any], Any]) -> None:
    """Run revisions as the service does: in one transaction, foreign keys off on SQLite while tables are rebuilt."""
    folder = str(Path(migrations.__path__[0]))
    files = ScriptDirectory(folder, version_locations=[f"{folder}/versions"])
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name == "sqlite":
        driver.execute("PRAGMA foreign_keys=OFF")
    with EnvironmentContext(Config(), files, fn=lambda revision, _: steps(files, revision)) as environment:
        with connection.begin():
            environment.configure(connection=connection, render_as_batch=True)
            environment.run_migrations()
    if connection.dialect.name == "sqlite":
        driver.execute("PRAGMA foreign_keys=ON")


def to(connection: Connection, revision: str, *, down: bool = False) -> None:
    """Go up, or down, to a revision."""

    def steps(files: ScriptDirectory, present: Any) -> Any:
        return files._downgrade_revs(revision, present) if down else files._upgrade_revs(revision, present)

    move(connection, steps)


def tables(connection: Connection) -> dict[str, Table]:
    """The tables as the database describes them now."""
    found = MetaData()
    found.reflect(connection)
    connection.rollback()
    return dict(found.tables)


def fill(connection: Connection) -> None:
    """Store what the first release would have."""
    known = tables(connection)
    with connection.begin():
        for name, rows in ROWS.items():
            connection.execute(known[name].insert(), rows)


async def test_a_job_of_the_first_release_is_read_and_goes_on(url: str, connection: Connection) -> None:
    to(connection, "0001")
    fill(connection)
    connection.close()
    now = partial(datetime.now, UTC)
    async with open_database(url, "services.trainer.migrations") as database:

        async def admitted() -> None:
            return None

        jobs = Jobs(database, now=now, new_id=lambda: "k", admit=admitted, most_unfinished=1000, changed=lambda _: None)
        (job,) = await jobs.unfinished()
        assert job.order.settings == Settings(
            method=Method.RSLORA,
            rank=8,
            alpha=16.0,
            target_modules=("q_proj",),
            epochs=2,
            batch_rows=4,
            learning_rate=0.001,
            schedule=job.order.settings.schedule,
            max_row_tokens=512,
            seed=3,
        )
        assert (job.state, job.progress.step, job.lease.owner) == (State.RUNNING, 3, "")
        events, _ = await jobs.events("acme", "j", 0)
        assert [(event.sequence, event.progress.loss, event.evaluation) for event in events] == [(1, 0.5, {})]
        claimed = await Leases(database, process_identity.own(), 9.0, now=now, changed=lambda _: None).claim(
            job, ("here",)
        )
        assert claimed is not None
        assert (claimed.lease.epoch, claimed.attempts) == (1, 2)
        dataset = await database.read(lambda session: find(session, "acme", "rows"))
        assert (dataset.digest, dataset.rows) == ("sha256:d", 10)


def test_rows_of_the_first_release_survive_the_way_up_and_down(connection: Connection) -> None:
    to(connection, "0001")
    fill(connection)
    to(connection, "head")
    to(connection, "0001", down=True)
    known = tables(connection)
    with connection.begin():
        found = {name: [dict(row._mapping) for row in connection.execute(select(known[name]))] for name in ROWS}
    assert found == ROWS
    to(connection, "head")
