"""What writes down use and what keeps questions each lock several collections: neither ever waits for the other in a ring."""

import asyncio
from functools import partial
from typing import Any, cast

from sqlalchemy import select, text

from services.retriever.catalog import Collections
from services.retriever.collection import Change
from services.retriever.expiry import Activity, Expiry
from services.retriever.questions import rows
from services.retriever.search.settings import SearchSettings
from services.retriever.store import CollectionRow
from tests.stack import eventually
from tests.unit.retriever.conftest import opened
from tests.unit.retriever.hashing import HashedEmbeddings
from tests.unit.retriever.writing import Scribe

NAMES = [f"rules-{number}" for number in range(4)]
# Later than whatever is in the catalog.
MOMENT = 2_000_000_000.0
WAITING = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")


class StoppingAtOne:
    """A database whose writer stops with its first row locked, until somebody waits for a lock."""

    def __init__(self, database):
        self.database, self.stopped = database, asyncio.Event()
        self.loop = asyncio.get_running_loop()

    async def read(self, query):
        return await self.database.read(query)

    async def write(self, change):
        return await self.database.write(lambda session: change(Stopping(session, self)))

    def someone_waits(self):
        return self.database.read_now(lambda session: session.scalar(WAITING))


class Stopping:
    def __init__(self, session, behind):
        self.session, self.behind, self.rows = session, behind, 0

    def execute(self, statement):
        self.session.execute(statement)
        self.rows += 1
        if self.rows == 1:
            self.behind.loop.call_soon_threadsafe(self.behind.stopped.set)
            eventually(self.behind.someone_waits, "somebody waits for the row", 30)


async def asked_about(house):
    """One text in collections that all have questions, and those questions, which have no vectors yet."""
    collections = Collections(house.database, lambda: 0.0, Scribe(lambda _: ""))
    for name in NAMES:
        await house.create(name)
        await collections.update("ada", name, Change(settings=SearchSettings(questions_per_chunk=1)))
    # The last is changed first: where rows lie, and are found, is not the order of their numbers.
    for name in reversed(NAMES):
        await house.ingested("herring.txt", "Barrels hold herring.", collection=name)
    (unwritten,) = await house.database.read(partial(rows.unwritten, most=99))
    questions = ["What do barrels hold?"]
    await house.database.write(partial(rows.keep_questions, task=unwritten, writer="scribe", questions=questions))
    (unembedded,) = await house.database.read(partial(rows.unembedded, most=99))
    return unembedded


async def test_use_is_written_down_while_vectors_of_questions_are_kept(tmp_path, postgres_url):
    async with opened(tmp_path, HashedEmbeddings(), catalog_url=postgres_url) as house:
        task = await asked_about(house)
        numbers = [await house.collections.number("ada", name) for name in NAMES]
        activity, database, nobody = Activity(lambda: MOMENT), StoppingAtOne(house.database), cast("Any", None)
        activity.used(numbers)
        expiry = Expiry(cast("Any", database), activity, nobody, nobody, nobody, nobody, 1.0)
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(expiry.round())
            await database.stopped.wait()
            keeping = partial(rows.keep_vectors, task=task, packed=b"")
            kept = group.create_task(house.database.write(keeping))
        assert sorted(kept.result()) == numbers
        used = await house.database.read(lambda session: set(session.scalars(select(CollectionRow.last_active_at))))
        assert used == {MOMENT}
