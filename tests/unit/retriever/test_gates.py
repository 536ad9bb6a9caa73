"""Searches of a collection run concurrently; a change runs alone; no caller waits without need."""

import asyncio
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from services.retriever.index.gates import Gates

# More turns of the event loop than an entry takes that need not wait.
TURNS = 20


async def settle():
    """Let every task go as far as it can without another's doing."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


@asynccontextmanager
async def entering(gate: AbstractAsyncContextManager[None]):
    """Somebody who enters the gate, and leaves it as the block ends; an event says when they are inside."""
    inside, leave = asyncio.Event(), asyncio.Event()

    async def enter():
        async with gate:
            inside.set()
            await leave.wait()

    task = asyncio.create_task(enter())
    await settle()
    try:
        yield inside
    finally:
        leave.set()
        await settle()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def is_let_in(gate: AbstractAsyncContextManager[None]):
    """Whether somebody who comes now enters without waiting; then they leave."""
    async with entering(gate) as inside:
        return inside.is_set()


async def test_searches_run_beside_one_another_and_a_change_alone():
    gates, log = Gates(), []
    leave = asyncio.Event()

    async def search(name):
        async with gates.search([1]):
            log.append(f"{name} in")
            await leave.wait()
            log.append(f"{name} out")

    async def change():
        async with gates.change(1):
            log.append("change in")
            await asyncio.sleep(0)
            log.append("change out")

    tasks = [asyncio.create_task(it) for it in (search("a"), search("b"))]
    await settle()
    assert log == ["a in", "b in"]
    # The third search comes after the change, which waits for the first two alone.
    tasks.append(asyncio.create_task(change()))
    await settle()
    tasks.append(asyncio.create_task(search("c")))
    await settle()
    assert log == ["a in", "b in"]
    leave.set()
    await settle()
    assert log == ["a in", "b in", "a out", "b out", "change in", "change out", "c in", "c out"]
    assert all(task.done() for task in tasks)


async def test_other_collections_do_not_wait():
    gates = Gates()
    async with entering(gates.change(2)) as inside:
        assert inside.is_set()
        assert await is_let_in(gates.search([1, 3]))
        assert await is_let_in(gates.change(3))
        assert not await is_let_in(gates.change(2))
        for collections in ([2], [1, 2], [3, 2]):
            assert not await is_let_in(gates.search(collections))
    assert await is_let_in(gates.search([1, 2, 3]))


async def test_one_who_gives_up_waiting_stops_nobody():
    gates = Gates()
    async with entering(gates.search([1])):
        # It waits, and gives up as its block ends.
        assert not await is_let_in(gates.change(1))
        assert await is_let_in(gates.search([1]))
    assert await is_let_in(gates.change(1))


async def test_the_number_of_changes_tells_whether_one_was_inside():
    gates = Gates()
    assert gates.changes(1) == 0
    async with entering(gates.change(1)):
        pass
    assert (gates.changes(1), gates.changes(2)) == (1, 0)
    assert await is_let_in(gates.search([1]))
    assert gates.changes(1) == 1
