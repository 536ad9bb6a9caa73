import asyncio

from services.retriever.index.gates import Gates


async def test_searches_run_beside_one_another_and_a_change_alone():
    gates, log = Gates(), []
    inside, leave = asyncio.Event(), asyncio.Event()

    async def search(name):
        async with gates.search([1]):
            log.append(f"{name} in")
            inside.set()
            await leave.wait()
            log.append(f"{name} out")

    async def change():
        async with gates.change(1):
            log.append("change")

    first = asyncio.create_task(search("a"))
    await inside.wait()
    changing = asyncio.create_task(change())
    await asyncio.sleep(0)
    # It came after the change, which waits for the first search alone.
    second = asyncio.create_task(search("b"))
    await asyncio.sleep(0)
    leave.set()
    await asyncio.gather(first, changing, second)
    assert log == ["a in", "a out", "change", "b in", "b out"]


async def test_other_collections_do_not_wait():
    gates = Gates()
    async with gates.change(1):
        async with gates.search([2]), gates.change(3):
            pass


async def test_one_who_gives_up_waiting_stops_nobody():
    gates = Gates()
    async with gates.search([1]):
        waiting = asyncio.create_task(gates.change(1).__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        async with gates.search([1]):
            pass
    async with gates.change(1):
        pass
