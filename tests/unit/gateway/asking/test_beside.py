"""Of two stages at once: what is raised, and what becomes of the other."""

import asyncio

import pytest

from gateway.asking.beside import both
from services.chassis.errors import Failure, Reason

_MODEL = Failure(Reason.MODEL_NOT_FOUND, name="desk", nearest="none")
_COLLECTION = Failure(Reason.COLLECTION_NOT_FOUND, name="papers", nearest="none")


async def failing(failure: Failure, turns: int) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)
    raise failure


@pytest.mark.parametrize("turns", [(0, 5), (5, 0)], ids=["sooner", "later"])
async def test_of_two_failures_the_first_stages_is_raised_whichever_came_sooner(turns: tuple[int, int]) -> None:
    with pytest.raises(Failure) as raised:
        await both(failing(_MODEL, turns[0]), failing(_COLLECTION, turns[1]))
    assert raised.value is _MODEL


async def test_a_failure_of_the_second_is_raised_once_the_first_is_there() -> None:
    first = asyncio.Event()

    async def waits() -> None:
        await first.wait()

    asked = asyncio.create_task(both(waits(), failing(_COLLECTION, 0)))
    done, _ = await asyncio.wait([asked], timeout=0.05)
    assert not done
    first.set()
    with pytest.raises(Failure) as raised:
        await asked
    assert raised.value is _COLLECTION


async def test_a_failure_of_the_first_ends_the_second() -> None:
    ended = asyncio.Event()

    async def goes_on() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(Failure):
        await both(failing(_MODEL, 1), goes_on())
    assert ended.is_set()


async def test_who_leaves_ends_both() -> None:
    ended: list[str] = []

    async def goes_on(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    asked = asyncio.create_task(both(goes_on("first"), goes_on("second")))
    await asyncio.sleep(0.01)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert sorted(ended) == ["first", "second"]
