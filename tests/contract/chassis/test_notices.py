"""Replicas hear of each other's commits, also after the database has cut them off."""

import asyncio
from contextlib import aclosing, suppress
from functools import partial

from sqlalchemy import Column, MetaData, String, Table, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from services.chassis.database import Database, open_database
from services.chassis.notices import heard, tell

CHANNEL = "changes"


async def next_of(notices) -> None:
    async with asyncio.timeout(60):
        await anext(notices)


def cut_off(session: Session) -> None:
    session.execute(
        text(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE 'LISTEN%'"
        )
    )


async def told(database: Database) -> None:
    await database.write(partial(tell, channel=CHANNEL))


async def test_a_notice_is_heard_once_it_is_committed(postgres_url: str) -> None:
    async with open_database(postgres_url, MetaData()) as database, aclosing(heard(database, CHANNEL)) as notices:
        await next_of(notices)  # connected
        coming = asyncio.create_task(next_of(notices))

        def tell_late(session: Session) -> bool:
            tell(session, CHANNEL)
            return coming.done()

        assert not await database.write(tell_late)
        await coming


async def test_a_listener_that_was_cut_off_connects_again_and_looks(postgres_url: str) -> None:
    async with open_database(postgres_url, MetaData()) as database, aclosing(heard(database, CHANNEL)) as notices:
        await next_of(notices)
        coming = asyncio.create_task(next_of(notices))
        with suppress(OperationalError):
            await database.write(cut_off)
        await coming  # for the new connection: what was told meanwhile may be lost
        coming = asyncio.create_task(next_of(notices))
        await told(database)
        await coming


async def test_on_sqlite_there_is_nobody_to_tell_and_what_was_written_is_kept(tmp_path) -> None:
    tables = MetaData()
    changes = Table("changes", tables, Column("name", String))

    def change(session: Session) -> None:
        session.execute(changes.insert().values(name="before"))
        tell(session, CHANNEL)
        session.execute(changes.insert().values(name="after"))

    async with open_database(f"sqlite:///{tmp_path}/s.db", tables) as database:
        await database.write(change)
        assert await database.read(lambda session: list(session.scalars(select(changes.c.name)))) == ["before", "after"]
