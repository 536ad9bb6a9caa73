import asyncio
from typing import Any, cast

import pytest

from services.chassis.errors import Failure, Reason
from services.retriever.expiry import Activity, Expiry


class Away:
    """A database that cannot be reached the first times, and then ends the test."""

    def __init__(self, times, failure):
        self.times, self.failure, self.written = times, failure, asyncio.Event()

    async def write(self, _):
        self.times -= 1
        if self.times >= 0:
            raise self.failure
        self.written.set()

    async def read(self, _):
        return []


def over(database, activity):
    nobody = cast("Any", None)
    return Expiry(database, activity, nobody, nobody, nobody, nobody, 0.001)


async def test_a_database_that_is_away_ends_nothing_and_use_is_remembered():
    activity = Activity(lambda: 1000.0)
    activity.used([1])
    database: Any = Away(2, Failure(Reason.PEER_UNAVAILABLE, service="database"))
    task = asyncio.create_task(over(database, activity).run())
    written = asyncio.create_task(database.written.wait())
    await asyncio.wait([task, written], return_when=asyncio.FIRST_COMPLETED, timeout=30)
    assert written.done()
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_does_not_pass_is_raised():
    activity = Activity(lambda: 1000.0)
    activity.used([1])
    database: Any = Away(1, Failure(Reason.INTERNAL, correlation_id=""))
    with pytest.raises(Failure):
        await over(database, activity).run()


async def test_what_was_used_when_writing_it_down_broke_is_written_down_at_the_end():
    activity = Activity(lambda: 1000.0)
    activity.used([1])
    database: Any = Away(1, RuntimeError("deadlock detected"))
    with pytest.raises(RuntimeError):
        await over(database, activity).run()
    assert database.written.is_set()


def test_what_could_not_be_written_down_is_kept_beside_later_use():
    activity = Activity(iter([1.0, 2.0]).__next__)
    activity.used([1, 2])
    taken = activity.take()
    activity.used([2])
    activity.put_back(taken)
    assert activity.take() == {1: 1.0, 2: 2.0}
