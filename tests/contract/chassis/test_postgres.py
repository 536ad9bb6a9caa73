"""What is promised of SQLite holds on PostgreSQL: the same code, a real server."""

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import MetaData, text
from sqlalchemy.orm import Session

from services.chassis.database import open_database
from services.chassis.errors import Failure, Reason
from tests.unit.chassis.test_database import Creation, add, key, metadata, names

_BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """A PostgreSQL server on a socket of its own; the address of its database."""
    if not _BINARIES:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    # Outside pytest's own folders, which only root may enter; the server refuses to run as root.
    folder = Path(tempfile.mkdtemp(prefix="trivium-postgres-"))
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if as_user:
        shutil.chown(folder, "postgres", "postgres")
    state = folder / "state"
    initdb = [*as_user, str(_BINARIES[-1] / "initdb"), "-D", str(state), "-U", "trivium", "-A", "trust", "--no-sync"]
    subprocess.run(initdb, check=True, capture_output=True, cwd=folder)
    options = f"-c listen_addresses='' -c unix_socket_directories={folder}"
    control = [*as_user, str(_BINARIES[-1] / "pg_ctl"), "-D", str(state), "-w"]
    start = [*control, "-o", options, "-l", str(folder / "log"), "start"]
    subprocess.run(start, check=True, stdout=subprocess.DEVNULL, cwd=folder)
    try:
        yield f"postgresql://trivium@/postgres?host={folder}"
    finally:
        stop = [*control, "-m", "immediate", "stop"]
        subprocess.run(stop, check=True, stdout=subprocess.DEVNULL, cwd=folder)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
async def empty(postgres: str) -> None:
    """Each test begins with an empty database."""
    async with open_database(postgres, MetaData()) as database:
        await database.write(lambda session: session.execute(text("DROP SCHEMA public CASCADE; CREATE SCHEMA public")))


async def test_a_write_is_all_or_nothing(postgres: str) -> None:
    async with open_database(postgres, metadata) as database:
        await database.write(add("a"))
        with pytest.raises(RuntimeError):
            await database.write(then_fails(add("b")))
        assert await database.read(names) == ["a"]


def then_fails(change: Callable[[Session], object]) -> Callable[[Session], None]:
    """``change``, and a crash before it is committed."""

    def both(session: Session) -> None:
        change(session)
        raise RuntimeError

    return both


async def test_a_repeated_request_has_one_effect(postgres: str) -> None:
    creation = Creation()
    async with open_database(postgres, metadata) as database:
        assert await database.write(creation.under(key())) == "response 1"
        assert await database.write(creation.under(key())) == "response 1"
        with pytest.raises(Failure) as failure:
            await database.write(creation.under(key(asks=b"b")))
        assert failure.value.reason is Reason.REQUEST_ID_REUSED
        assert await database.read(names) == ["thing 1"]


async def test_twins_on_two_replicas_have_one_effect(postgres: str) -> None:
    creation = Creation()
    async with open_database(postgres, metadata) as one, open_database(postgres, metadata) as two:
        answers = await asyncio.gather(*(side.write(creation.under(key())) for side in [one, two] * 10))
        assert set(answers) == {"response 1"}
        assert await one.read(names) == ["thing 1"]


async def test_a_crash_between_effect_and_commit_leaves_neither(postgres: str) -> None:
    creation = Creation()
    async with open_database(postgres, metadata) as database:
        with pytest.raises(RuntimeError):
            await database.write(then_fails(creation.under(key())))
        assert await database.write(creation.under(key())) == "response 2"


async def test_replicas_that_start_together_migrate_once(postgres: str) -> None:
    async def start() -> list[str]:
        async with open_database(postgres, "services.access.migrations") as database:
            return await database.read(
                lambda session: list(session.scalars(text("SELECT version_num FROM alembic_version")))
            )

    versions = await asyncio.gather(*(start() for _ in range(4)))
    assert all(len(found) == 1 for found in versions)
