"""A PostgreSQL server of its own on a socket, and databases in it: what is promised of SQLite holds there too."""

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from services.chassis.database import make_engine


def _binaries() -> Path:
    """The folder of initdb and pg_ctl; Debian keeps it off the path."""
    on_path = shutil.which("initdb")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin")) or ([Path(on_path).parent] if on_path else [])
    if not found:
        pytest.skip("PostgreSQL is not installed: make setup as root, or: sudo apt-get install postgresql")
    return found[-1]


class Postgres:
    """A server.  ``folder`` holds its socket and its state."""

    def __init__(self, folder: Path, binaries: Path) -> None:
        self._folder = folder
        as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if as_user:
            # The server refuses to run as root.
            shutil.chown(folder, "postgres", "postgres")
        self._initdb = [*as_user, str(binaries / "initdb"), "-D", str(folder / "state"), "-U", "trivium"]
        self._control = [*as_user, str(binaries / "pg_ctl"), "-D", str(folder / "state"), "-w"]

    def start(self) -> None:
        """Make its state and start it."""
        self._run([*self._initdb, "-A", "trust", "--no-sync"])
        options = f"-c listen_addresses='' -c unix_socket_directories={self._folder}"
        self._run([*self._control, "-o", options, "-l", str(self._folder / "log"), "start"])

    def stop(self) -> None:
        """End it as it stands."""
        self._run([*self._control, "-m", "immediate", "stop"])

    def _run(self, command: list[str]) -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self._folder)

    def _address(self, database: str) -> str:
        return f"postgresql://trivium@/{database}?host={self._folder}"

    def database(self) -> str:
        """The address of a new, empty database."""
        name = f"d{uuid.uuid4().hex}"
        engine = make_engine(self._address("postgres"))
        with engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT").execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return self._address(name)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server for the whole session; each test takes databases of its own."""
    binaries = _binaries()
    # Outside pytest's own folders, which only root may enter.
    folder = Path(tempfile.mkdtemp(prefix="trivium-postgres-"))
    server = Postgres(folder, binaries)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres: Postgres) -> str:
    """An empty database of this test alone."""
    return postgres.database()
