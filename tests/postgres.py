"""A PostgreSQL server of its own on a socket, and databases in it: what is promised of SQLite holds there too."""

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from services.chassis.database import make_engine, open_database
from tests import tied
from tests.stack import eventually


def find_binaries() -> Path:
    """The folder of initdb and postgres; Debian keeps it off the path.  Skips the test where there is none."""
    on_path = shutil.which("initdb")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin")) or ([Path(on_path).parent] if on_path else [])
    if not found:
        pytest.skip("PostgreSQL is not installed: make setup as root, or: sudo apt-get install postgresql")
    return found[-1]


class Postgres:
    """A server.  ``folder`` holds its socket and its state."""

    def __init__(self, folder: Path, binaries: Path) -> None:
        self._folder = folder
        self._binaries = binaries
        self._child: subprocess.Popen[bytes] | None = None
        # By service, the template database: it holds the service's tables and has no connections.
        self._templates: dict[str, str] = {}
        self._options: dict[str, Any] = {"cwd": folder}
        if os.geteuid() == 0:
            # The server refuses to run as root.
            self._options |= {"user": "postgres", "group": "postgres", "extra_groups": []}
            shutil.chown(folder, "postgres", "postgres")

    def start(self) -> None:
        """Make its state, start it and wait until it answers."""
        state, log = self._folder / "state", self._folder / "log"
        initdb: list[str | Path] = [self._binaries / "initdb", "-D", state, "-U", "trivium", "-A", "trust", "--no-sync"]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, **self._options)
        settings = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={self._folder}"]
        with log.open("wb") as output:
            # Started by us and not by pg_ctl, so that it is our child; in a session of its own, so that Ctrl+C
            # reaches it through us.  SIGQUIT: killed, it would leave shared memory behind.
            self._child = tied.start(
                [self._binaries / "postgres", "-D", state, *settings],
                last=signal.SIGQUIT, start_new_session=True, stdout=output, stderr=output, **self._options,
            )  # fmt: skip
        eventually(self._answers, "PostgreSQL answers")

    def _answers(self) -> bool:
        assert self._child is not None
        assert self._child.poll() is None, f"PostgreSQL died:\n{(self._folder / 'log').read_text()[-2000:]}"
        return subprocess.run([self._binaries / "pg_isready", "--quiet", "-h", self._folder]).returncode == 0

    def stop(self) -> None:
        """End it as it stands."""
        if self._child is not None:
            self._child.send_signal(signal.SIGQUIT)
            self._child.wait(30)

    @property
    def pid(self) -> int:
        """Process id while it runs."""
        assert self._child is not None
        return self._child.pid

    def _address(self, database: str) -> str:
        return f"postgresql://trivium@/{database}?host={self._folder}"

    def database(self, service: str = "") -> str:
        """The address of a new database: empty, or a copy of one that holds a service's newest tables."""
        if service and service not in self._templates:
            self._templates[service] = self._created("")
            migrate(self._address(self._templates[service]), service)
        return self._address(self._created(self._templates[service] if service else ""))

    def _created(self, template: str) -> str:
        name = f"d{uuid.uuid4().hex}"
        source = f"TEMPLATE {template}" if template else ""
        engine = make_engine(self._address("postgres"))
        with engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT").execute(text(f"CREATE DATABASE {name} {source}"))
        engine.dispose()
        return name


def migrate(url: str, service: str) -> None:
    """Bring a database up to the newest tables of a service."""

    async def opened() -> None:
        async with open_database(url, f"services.{service}.migrations", turn=service):
            pass

    # In a thread: the caller's may run a loop.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, opened()).result()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server for the whole session; each test takes databases of its own."""
    binaries = find_binaries()
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
