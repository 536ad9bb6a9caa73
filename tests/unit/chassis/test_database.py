"""Durable state: what was acknowledged is there after kill -9, and a request has one effect."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import Column, ForeignKey, Integer, MetaData, String, Table, insert, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from services.chassis.database import Database, open_database
from services.chassis.errors import Failure, Reason
from services.chassis.idempotency import IdempotencyKey, fingerprint, once

ROOT = Path(__file__).resolve().parents[3]
metadata = MetaData()
things = Table("things", metadata, Column("id", Integer, primary_key=True), Column("name", String, unique=True))
parts = Table("parts", metadata, Column("thing", ForeignKey("things.id"), nullable=False))


@asynccontextmanager
async def database_in(folder: Path) -> AsyncIterator[Database]:
    async with open_database(f"sqlite:///{folder}/state.db", metadata) as database:
        yield database


def names(session: Session) -> list[str]:
    return list(session.scalars(select(things.c.name).order_by(things.c.id)))


def add(name: str) -> Callable[[Session], None]:
    """A write that adds one thing."""

    def change(session: Session) -> None:
        session.execute(insert(things).values(name=name))

    return change


async def test_a_write_is_all_or_nothing(tmp_path: Path) -> None:
    def half(session: Session) -> None:
        add("a")(session)
        raise Failure(Reason.MODEL_NOT_FOUND, name="x", nearest="y")

    async with database_in(tmp_path) as database:
        with pytest.raises(Failure):
            await database.write(half)
        assert await database.read(names) == []


async def test_foreign_keys_are_enforced(tmp_path: Path) -> None:
    async with database_in(tmp_path) as database:
        with pytest.raises(IntegrityError):
            await database.write(lambda session: session.execute(insert(parts).values(thing=7)))


async def test_the_database_syncs_fully_and_writes_ahead(tmp_path: Path) -> None:
    async with database_in(tmp_path) as database:
        settings = await database.read(
            lambda session: [session.scalar(text(f"PRAGMA {name}")) for name in ("journal_mode", "synchronous")]
        )
    assert settings == ["wal", 2]


async def test_many_writers_queue_and_readers_see_whole_writes(tmp_path: Path) -> None:
    def two(number: int) -> Callable[[Session], None]:
        def change(session: Session) -> None:
            # Reads first: a transaction that only then wants to write would fail if another wrote in between.
            names(session)
            add(f"{number}a")(session)
            add(f"{number}b")(session)

        return change

    async with database_in(tmp_path) as database, database_in(tmp_path) as other:
        writes = [side.write(two(number)) for number, side in enumerate([database, other] * 20)]
        reads = asyncio.gather(*(database.read(names) for _ in range(20)))
        await asyncio.gather(*writes)
        assert all(len(seen) % 2 == 0 for seen in await reads)
        assert len(await database.read(names)) == 80


WRITER = textwrap.dedent(
    """
    import asyncio, sys
    sys.path.insert(0, ".")
    from pathlib import Path
    from tests.unit.chassis.test_database import add, database_in

    async def main():
        async with database_in(Path(sys.argv[1])) as database:
            number = 0
            while True:
                await database.write(add(str(number)))
                print(number, flush=True)
                number += 1

    asyncio.run(main())
    """
)


def last_acknowledged_before_kill_9(folder: Path) -> int:
    """Kill a writer in the middle of its work; the number of its last acknowledged write."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    acknowledged = [process.stdout.readline() for _ in range(50)]
    os.kill(process.pid, signal.SIGKILL)
    acknowledged += process.stdout.readlines()
    process.wait()
    process.stdout.close()
    return int([line for line in acknowledged if line.endswith("\n")][-1])


async def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    last = await asyncio.to_thread(last_acknowledged_before_kill_9, tmp_path)
    async with database_in(tmp_path) as database:
        kept = await database.read(names)
    assert kept[: last + 1] == [str(number) for number in range(last + 1)]
    assert len(kept) <= last + 2


def key(request_id: str = "id-1", asks: bytes = b"a", tenant: str = "acme") -> IdempotencyKey:
    return IdempotencyKey(tenant, "/S/Create", request_id, asks)


class Creation:
    """Creates one thing and says so; counts how often it ran."""

    def __init__(self) -> None:
        self.ran = 0

    def under(self, identity: IdempotencyKey) -> Callable[[Session], str]:
        def change(session: Session) -> str:
            def effect() -> str:
                self.ran += 1
                add(f"thing {self.ran}")(session)
                return f"response {self.ran}"

            return once(session, identity, effect)

        return change


async def test_a_repeated_request_has_one_effect_and_the_first_response(tmp_path: Path) -> None:
    creation = Creation()
    async with database_in(tmp_path) as database:
        first = await database.write(creation.under(key()))
        again = await database.write(creation.under(key()))
        assert (first, again, creation.ran) == ("response 1", "response 1", 1)
    async with database_in(tmp_path) as database:
        assert await database.write(creation.under(key())) == "response 1"
        assert await database.read(names) == ["thing 1"]


async def test_an_id_that_is_reused_for_something_else_is_refused(tmp_path: Path) -> None:
    creation = Creation()
    async with database_in(tmp_path) as database:
        await database.write(creation.under(key()))
        with pytest.raises(Failure) as failure:
            await database.write(creation.under(key(asks=b"b")))
        assert failure.value.reason is Reason.REQUEST_ID_REUSED
        assert creation.ran == 1


async def test_ids_of_two_tenants_do_not_meet(tmp_path: Path) -> None:
    creation = Creation()
    async with database_in(tmp_path) as database:
        await database.write(creation.under(key()))
        assert await database.write(creation.under(key(tenant="globex", asks=b"b"))) == "response 2"


async def test_without_an_id_every_request_counts(tmp_path: Path) -> None:
    creation = Creation()
    async with database_in(tmp_path) as database:
        for _ in range(2):
            await database.write(creation.under(key(request_id="")))
    assert creation.ran == 2


async def test_twins_at_the_same_moment_have_one_effect(tmp_path: Path) -> None:
    creation = Creation()
    async with database_in(tmp_path) as one, database_in(tmp_path) as two:
        answers = await asyncio.gather(*(side.write(creation.under(key())) for side in [one, two] * 10))
        assert set(answers) == {"response 1"}
        assert await one.read(names) == ["thing 1"]


async def test_a_crash_between_effect_and_commit_leaves_neither(tmp_path: Path) -> None:
    creation = Creation()

    def crash(session: Session) -> str:
        creation.under(key())(session)
        raise RuntimeError("killed here")

    async with database_in(tmp_path) as database:
        with pytest.raises(RuntimeError):
            await database.write(crash)
        assert await database.read(names) == []
        assert await database.write(creation.under(key())) == "response 2"


def test_the_fingerprint_ignores_the_id_and_nothing_else() -> None:
    from trivium.access.v1.access_pb2 import CreateTenantRequest

    one = CreateTenantRequest(tenant="a", request_id="1")
    assert fingerprint(one) == fingerprint(CreateTenantRequest(tenant="a", request_id="2"))
    assert fingerprint(one) != fingerprint(CreateTenantRequest(tenant="b", request_id="1"))
    assert one.request_id == "1"


REVISION = """
revision = "{number}"
down_revision = {before}
import sqlalchemy as sa
from alembic import op

def upgrade():
    {body}
"""


async def test_revisions_of_a_package_bring_a_database_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "some_service" / "migrations"
    folder.mkdir(parents=True)
    for package in (folder.parent, folder):
        (package / "__init__.py").touch()
    create = (
        'op.create_table("t", sa.Column("id", sa.Integer, primary_key=True)); op.execute("INSERT INTO t VALUES (1)")'
    )
    (folder / "0001_first.py").write_text(REVISION.format(number="1", before=None, body=create))
    monkeypatch.syspath_prepend(str(tmp_path))
    url = f"sqlite:///{tmp_path}/state.db"
    async with open_database(url, "some_service.migrations"):
        pass
    alter = 'op.add_column("t", sa.Column("name", sa.String, server_default="n"))'
    (folder / "0002_second.py").write_text(REVISION.format(number="2", before='"1"', body=alter))
    for _ in range(2):
        async with open_database(url, "some_service.migrations") as database:
            rows = await database.read(lambda session: session.execute(text("SELECT id, name FROM t")).all())
        assert [tuple(row) for row in rows] == [(1, "n")]


async def test_a_revision_that_fails_leaves_the_database_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "other_service" / "migrations"
    folder.mkdir(parents=True)
    for package in (folder.parent, folder):
        (package / "__init__.py").touch()
    body = 'op.create_table("t", sa.Column("id", sa.Integer)); raise RuntimeError("half-way")'
    (folder / "0001_first.py").write_text(REVISION.format(number="1", before=None, body=body))
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(RuntimeError):
        async with open_database(f"sqlite:///{tmp_path}/state.db", "other_service.migrations"):
            pass
    async with open_database(f"sqlite:///{tmp_path}/state.db", MetaData()) as database:
        tables = await database.read(
            lambda session: session.scalars(text("SELECT name FROM sqlite_master WHERE name = 't'")).all()
        )
    assert tables == []
