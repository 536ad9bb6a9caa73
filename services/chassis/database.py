"""Relational state on SQLite or PostgreSQL: one transaction a write, committed before it returns.

SQLite runs in WAL mode with ``synchronous=FULL`` (an acknowledged write survives a
power cut), foreign keys on, and ``BEGIN IMMEDIATE`` for writes, so that two writers
queue instead of failing half-way.  Functions run in threads; sessions never leave them.
"""

import asyncio
import importlib
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from contextvars import copy_context
from pathlib import Path
from typing import Any, TypeVar

from pydantic import SecretStr
from sqlalchemy import Connection, Engine, MetaData, create_engine, event, func, make_url, select, text
from sqlalchemy.exc import DataError, DBAPIError, OperationalError
from sqlalchemy.orm import Session

from services.chassis import idempotency, steps
from services.chassis.errors import Failure, Reason
from services.chassis.files import disk_full_named
from services.chassis.steps import Step, passed

T = TypeVar("T")

_BUSY_MILLISECONDS = 10_000
_READERS = 4
# Within a transaction, on PostgreSQL: a process that stands still keeps rows and turns from all others no longer than
# this, a third of what a caller waits.  A look at the blobs, the slowest that a transaction does meanwhile, ends in 5 s.
_SILENT_MILLISECONDS = 20_000
# Serialises migrations of replicas that start together (PostgreSQL advisory lock).
_MIGRATION_LOCK = 0x7472_6976


class Database:
    """A database opened by :func:`open_database`."""

    def __init__(self, engine: Engine, turn: str = "") -> None:
        self._engine = engine
        self._turn = turn
        self.is_sqlite = engine.dialect.name == "sqlite"
        # SQLite has one writer at a time: one thread queues them fairly, without lock timeouts.
        writers = 1 if self.is_sqlite else _READERS
        self._writing = ThreadPoolExecutor(writers, thread_name_prefix="database-write")
        self._reading = ThreadPoolExecutor(_READERS, thread_name_prefix="database-read")

    @property
    def address(self) -> str:
        """The database's URL, password included, as its own client library takes it."""
        return self._engine.url.set(drivername=self._engine.dialect.name).render_as_string(hide_password=False)

    async def read(self, query: Callable[[Session], T]) -> T:
        """Run ``query`` in a read transaction (one snapshot) and return its result.  Raises PEER_UNAVAILABLE."""
        return await asyncio.get_running_loop().run_in_executor(self._reading, self.read_now, query)

    async def write(self, change: Callable[[Session], T]) -> T:
        """Run ``change`` in one transaction; when this returns, it is durable.

        If ``change`` raises, nothing of it remains.  A cancelled caller does not know
        whether it happened: that is what ``request_id`` is for.  Raises DISK_FULL, and PEER_UNAVAILABLE where the
        server is away; then too nobody knows.
        """
        # In the caller's context: what is written says in whose request it was.
        here = copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._writing, here.run, self.write_now, change)

    def read_now(self, query: Callable[[Session], T]) -> T:
        """:meth:`read`, blocking: for code that already runs in a thread."""
        with _named(), self._engine.connect() as opened:
            connection = opened if self.is_sqlite else opened.execution_options(isolation_level="REPEATABLE READ")
            with Session(connection, expire_on_commit=False) as session:
                return query(session)

    def write_now(self, change: Callable[[Session], T]) -> T:
        """:meth:`write`, blocking: for code that already runs in a thread."""
        with _named(), self._engine.connect() as opened:
            connection = opened.execution_options(trivium_write=True)
            with Session(connection, expire_on_commit=False) as session, session.begin():
                # Begins now and not with the first statement: what the change looks at outside of the database
                # must not have been looked at before nobody else could write.
                session.connection()
                passed(Step.WRITE_BEGUN)
                if self._turn:
                    take_turn(session, self._turn)
                result = change(session)
                session.flush()
                passed(Step.WRITE_READY)
            passed(Step.WRITE_COMMITTED)
            return result

    def close(self) -> None:
        """Finish what runs and close the connections.  Blocks."""
        self._writing.shutdown(wait=True)
        self._reading.shutdown(wait=True)
        self._engine.dispose()


@contextmanager
def _named() -> Iterator[None]:
    """Name what is not a fault of ours: a text that PostgreSQL cannot keep, a full disk, a server that is away."""
    try:
        yield
    except DBAPIError as error:
        if isinstance(error, DataError) and "NUL" in str(error.orig):
            problem = "a text in it holds a NUL character; leave it out"
            raise Failure(Reason.FIELD_INVALID, field="request", problem=problem) from error
        operational = isinstance(error, OperationalError)
        if operational and "full" in str(error.orig).lower():
            raise Failure(Reason.DISK_FULL, what="the database") from error
        # Lost in the middle, or never had: then there is no statement.
        if error.connection_invalidated or (operational and error.statement is None):
            raise Failure(Reason.PEER_UNAVAILABLE, retry_after_seconds=1.0, service="database") from error
        raise


def take_turn(session: Session, turn: str) -> None:
    """Wait for the turn of this name and hold it until the transaction ends.  Call before the transaction reads.

    A write that decides by what it read needs one: SQLite has one writer at a time, but on PostgreSQL two would
    overwrite or double one another's rows.  Whoever takes several takes them in one order everywhere.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(turn, 0))))


@asynccontextmanager
async def open_database(url: str | SecretStr, schema: MetaData | str, *, turn: str = "") -> AsyncIterator[Database]:
    """Open (and bring up to date) the database at ``url``.

    ``schema`` is the package of a service's alembic revisions
    (``"services.registry.migrations"``), or tables to create as they are, for tests.
    With ``turn`` every write takes the turn of that name, so that replicas write one at a time.
    """
    plain = url.get_secret_value() if isinstance(url, SecretStr) else url
    engine = make_engine(plain)
    await asyncio.to_thread(_prepare, engine, schema)
    database = Database(engine, turn)
    try:
        yield database
    finally:
        await asyncio.to_thread(database.close)


def make_engine(url: str) -> Engine:
    """An engine with our rules for its dialect."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "postgresql" and parsed.get_driver_name() in ("", "psycopg2"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() != "sqlite":
        engine = _with_steps(create_engine(parsed, pool_pre_ping=True, pool_size=_READERS * 2))
        event.listen(engine, "connect", _configure_postgresql)
        return engine
    if parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = _with_steps(create_engine(parsed, connect_args={"timeout": _BUSY_MILLISECONDS / 1000}))
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _with_steps(engine: Engine) -> Engine:
    if steps.listener is not None:
        event.listen(engine, "after_cursor_execute", _statement_passed)
    return engine


def _statement_passed(connection: Connection, *_: object) -> None:
    if connection.get_execution_options().get("trivium_write", False):
        passed(Step.WRITE_STATEMENT)


def _configure_postgresql(connection: Any, _: object) -> None:
    # A machine that is gone or frozen inside a transaction keeps nothing from the others for ever: the server ends it.
    connection.execute(f"SET idle_in_transaction_session_timeout = {_SILENT_MILLISECONDS}")
    connection.commit()


def _configure_sqlite(connection: Any, _: object) -> None:
    # We say BEGIN ourselves (see below); the driver's own would come too late for reads.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={_BUSY_MILLISECONDS}"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("trivium_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _prepare(engine: Engine, schema: MetaData | str) -> None:
    with disk_full_named("the database"), engine.connect() as opened:
        connection = opened.execution_options(trivium_write=True)
        if engine.dialect.name == "sqlite":
            # A revision that rebuilds a table drops the old one: enforced keys would cascade into its children.
            _pragma(connection, "foreign_keys=OFF")
        with connection.begin():
            if engine.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            idempotency.create_table(connection)
            if isinstance(schema, MetaData):
                schema.create_all(connection)
            else:
                _upgrade(connection, schema)
        if engine.dialect.name == "sqlite":
            _pragma(connection, "foreign_keys=ON")


def _pragma(connection: Connection, setting: str) -> None:
    # On the driver's connection: through SQLAlchemy it would open a transaction, inside which it has no effect.
    driver: Any = connection.connection.driver_connection
    driver.execute(f"PRAGMA {setting}")


def _upgrade(connection: Connection, package: str) -> None:
    """Run the service's revisions up to its newest, inside the caller's transaction."""
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    folder = Path(str(importlib.import_module(package).__path__[0]))
    versions = folder / "versions" if (folder / "versions").is_dir() else folder
    script = ScriptDirectory(str(folder), version_locations=[str(versions)])

    def upgrade(revision: Any, _: object) -> Any:
        return script._upgrade_revs("head", revision)

    with EnvironmentContext(Config(), script, fn=upgrade) as environment:
        environment.configure(connection=connection, render_as_batch=True)
        environment.run_migrations()
