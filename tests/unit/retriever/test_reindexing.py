"""A new build of an index is made beside writes, which are no reason to refuse it."""

import asyncio

import pytest

from services.chassis.errors import Failure, Reason
from services.retriever.index.building import Builder
from services.retriever.index.reindexing import Reindexing


def reindexing(house, blocking):
    return Reindexing(house.database, house.index, house.ingestion.tools.gates, Builder(house.index, blocking))


async def built(made):
    *_, last = [progress async for progress in made.reindex("ada", "rules", None)]
    return last


@pytest.mark.parametrize("look", ["members", "digest"])
async def test_a_document_that_comes_between_two_looks_at_a_new_build_is_in_it(house, look):
    await house.ingested("a.md", "# Ferries\n\nA crossing costs three crowns.")
    late = ["# Herring\n\nHerring is served with mustard."]

    async def blocking(function, *arguments):
        if late and getattr(function, "__name__", "") == look:
            await house.ingested("late.md", late.pop())
        return await asyncio.to_thread(function, *arguments)

    last = await built(reindexing(house, blocking))
    number = await house.collections.number("ada", "rules")
    assert not late
    assert last.done == 2
    assert last.digest == house.index.digest(number)


async def test_a_build_that_holds_something_else_while_nobody_writes_is_refused(house):
    await house.ingested("a.md", "# Ferries\n\nA crossing costs three crowns.")
    number = await house.collections.number("ada", "rules")
    before = house.index.place(number)

    async def blocking(function, *arguments):
        found = await asyncio.to_thread(function, *arguments)
        return "another" if getattr(function, "__name__", "") == "digest" else found

    with pytest.raises(Failure) as caught:
        await built(reindexing(house, blocking))
    assert caught.value.reason is Reason.INDEX_NOT_VERIFIED
    assert house.index.place(number) == before
