"""What is promised of SQLite holds on PostgreSQL: the same code, a real server."""

import asyncio
import threading
from collections.abc import Callable

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from services.chassis.database import Database, make_engine, open_database
from services.chassis.errors import Failure, Reason
from tests.harness.timeouts import HANG_SECONDS
from tests.unit.chassis.test_database import Creation, add, key, metadata, names


async def test_a_write_is_all_or_nothing(postgres_url: str) -> None:
    async with open_database(postgres_url, metadata) as database:
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


async def test_a_repeated_request_has_one_effect(postgres_url: str) -> None:
    creation = Creation()
    async with open_database(postgres_url, metadata) as database:
        assert await database.write(creation.under(key())) == "response 1"
        assert await database.write(creation.under(key())) == "response 1"
        with pytest.raises(Failure) as failure:
            await database.write(creation.under(key(asks=b"b")))
        assert failure.value.reason is Reason.REQUEST_ID_REUSED
        assert await database.read(names) == ["thing 1"]


async def test_twins_on_two_replicas_have_one_effect(postgres_url: str) -> None:
    creation = Creation()
    async with open_database(postgres_url, metadata) as one, open_database(postgres_url, metadata) as two:
        answers = await asyncio.gather(*(side.write(creation.under(key())) for side in [one, two] * 10))
        assert set(answers) == {"response 1"}
        assert await one.read(names) == ["thing 1"]


async def test_a_crash_between_effect_and_commit_leaves_neither(postgres_url: str) -> None:
    creation = Creation()
    async with open_database(postgres_url, metadata) as database:
        with pytest.raises(RuntimeError):
            await database.write(then_fails(creation.under(key())))
        assert await database.write(creation.under(key())) == "response 2"


@pytest.mark.parametrize("turn", ["names", ""], ids=["its turn", "its rows"])
async def test_a_writer_of_which_nothing_is_heard_loses(
    turn: str, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.chassis.database._SILENT_MILLISECONDS", 5_000)
    turned, heard = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def stands_still(session: Session) -> None:
        add("name")(session)
        loop.call_soon_threadsafe(turned.set)
        assert heard.wait(2 * HANG_SECONDS)

    async with (
        open_database(postgres_url, metadata, turn=turn) as one,
        open_database(postgres_url, metadata, turn=turn) as two,
    ):
        lost = asyncio.create_task(one.write(stands_still))
        async with asyncio.timeout(HANG_SECONDS):
            await turned.wait()
            # Names are unique: without a turn this waits for the other's row.
            await two.write(add("name"))
        heard.set()
        with pytest.raises(Failure) as failure:
            await lost
        assert failure.value.reason is Reason.PEER_UNAVAILABLE
        assert await one.read(names) == ["name"]


async def test_a_server_that_is_away_is_named(postgres_url: str) -> None:
    def cut(session: Session) -> None:
        session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    gone = Database(make_engine("postgresql://trivium@/nothing?host=/nowhere"))
    async with open_database(postgres_url, metadata) as database:
        for ask in (database.read(cut), database.write(cut), gone.read(names), gone.write(add("lost"))):
            with pytest.raises(Failure) as failure:
                await ask
            assert failure.value.reason is Reason.PEER_UNAVAILABLE
            assert failure.value.variables["service"] == "database"
        assert await database.read(names) == []
    gone.close()


async def test_replicas_that_start_together_migrate_once(postgres_url: str) -> None:
    async def start() -> list[str]:
        async with open_database(postgres_url, "services.access.migrations") as database:
            return await database.read(
                lambda session: list(session.scalars(text("SELECT version_num FROM alembic_version")))
            )

    versions = await asyncio.gather(*(start() for _ in range(4)))
    assert all(len(found) == 1 for found in versions)


async def test_a_text_that_cannot_be_kept_is_a_bad_request_and_no_fault_of_ours(postgres_url: str) -> None:
    async with open_database(postgres_url, metadata) as database:
        with pytest.raises(Failure) as failure:
            await database.write(add("a\0b"))
        assert failure.value.reason is Reason.FIELD_INVALID
        with pytest.raises(Failure) as failure:
            await database.read(lambda session: session.execute(text("SELECT :name"), {"name": "\0"}))
        assert "NUL" in failure.value.sentence
        assert await database.read(names) == []
