"""Long work outlasts the call that began it, and a repeated request joins it instead of beginning another."""

import asyncio

import pytest

from services.chassis.errors import Failure, Reason
from services.chassis.idempotency import IdempotencyKey
from services.registry.works import Progress, Works

KEY = IdempotencyKey("acme", "MergeVersion", "4f8f3c52-0000-4000-8000-000000000001", b"merge desk")


class Task:
    """Work that ends when it is let go; counts how often it was begun."""

    def __init__(self) -> None:
        self.begun = 0
        self.cancelled = False
        self.entered, self.go = asyncio.Event(), asyncio.Event()

    async def __call__(self, progress: Progress) -> str:
        self.begun += 1
        self.entered.set()
        progress.say("half")
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return "done"


async def told(works: Works, task: Task, key: IdempotencyKey = KEY) -> str:
    """How far the work is, by the failure that says so."""
    with pytest.raises(Failure) as failure:
        await works.join(key, "The merge", task)
    assert failure.value.reason is Reason.WORK_UNDER_WAY
    return failure.value.sentence


async def test_a_repeat_joins_the_run_and_hears_its_end() -> None:
    task = Task()
    async with Works(patience_seconds=0.01) as works:
        assert "half" in await told(works, task)
        assert "half" in await told(works, task)
        task.go.set()
        assert await works.join(KEY, "The merge", task) == "done"
        assert task.begun == 1


async def test_an_end_that_came_between_two_calls_is_told_to_the_next() -> None:
    task = Task()
    async with Works(patience_seconds=0.01) as works:
        await told(works, task)
        task.go.set()
        await asyncio.sleep(0)
        assert await works.join(KEY, "The merge", task) == "done"
        assert task.begun == 1


async def test_a_caller_that_goes_away_does_not_end_the_work() -> None:
    task = Task()
    async with Works(patience_seconds=60) as works:
        caller = asyncio.create_task(works.join(KEY, "The merge", task))
        await task.entered.wait()
        caller.cancel()
        await asyncio.wait([caller])
        task.go.set()
        assert await works.join(KEY, "The merge", task) == "done"
        assert task.begun == 1


async def test_what_it_failed_with_is_told_and_the_next_call_begins_anew() -> None:
    async def fails(progress: Progress) -> str:
        raise Failure(Reason.DISK_FULL, what="the blobs")

    task = Task()
    task.go.set()
    async with Works(patience_seconds=60) as works:
        with pytest.raises(Failure) as failure:
            await works.join(KEY, "The merge", fails)
        assert failure.value.reason is Reason.DISK_FULL
        assert await works.join(KEY, "The merge", task) == "done"


async def test_another_tenants_request_and_another_request_are_not_joined() -> None:
    task, other = Task(), Task()
    async with Works(patience_seconds=0.01) as works:
        await told(works, task)
        await told(works, other, IdempotencyKey("beta", KEY.method, KEY.request_id, KEY.fingerprint))
        assert other.begun == 1
        with pytest.raises(Failure) as failure:
            await works.join(IdempotencyKey(KEY.tenant, KEY.method, KEY.request_id, b"else"), "The merge", task)
        assert failure.value.reason is Reason.REQUEST_ID_REUSED


async def test_another_request_for_the_same_work_joins_it_and_its_id_is_held_to_what_it_asked() -> None:
    task, second = Task(), IdempotencyKey(KEY.tenant, KEY.method, "another", b"merge desk")
    async with Works(patience_seconds=0.01) as works:
        for key in (KEY, second):
            with pytest.raises(Failure) as failure:
                await works.join(key, "The merge", task, work="desk@1 into full")
            assert failure.value.reason is Reason.WORK_UNDER_WAY
        for key in (KEY, second):
            other = IdempotencyKey(key.tenant, key.method, key.request_id, b"merge another")
            with pytest.raises(Failure) as failure:
                await works.join(other, "The merge", task, work="desk@2 into full")
            assert failure.value.reason is Reason.REQUEST_ID_REUSED
        task.go.set()
        assert await works.join(second, "The merge", task, work="desk@1 into full") == "done"
        assert task.begun == 1


async def test_everyone_who_joined_hears_the_end_though_another_heard_it_first_and_a_newcomer_begins_anew() -> None:
    task, second, third = Task(), *(IdempotencyKey(KEY.tenant, KEY.method, it, b"merge desk") for it in ("2", "3"))
    async with Works(patience_seconds=0.01) as works:
        for key in (KEY, second):
            with pytest.raises(Failure, check=lambda failure: failure.reason is Reason.WORK_UNDER_WAY):
                await works.join(key, "The merge", task, work="desk@1 into full")
        task.go.set()
        for key in (KEY, second):
            assert await works.join(key, "The merge", task, work="desk@1 into full") == "done"
        assert task.begun == 1
        assert await works.join(third, "The merge", task, work="desk@1 into full") == "done"
        assert task.begun == 2


async def test_a_long_queue_of_one_tenants_is_not_in_front_of_anothers_work() -> None:
    tasks, other = [Task() for _ in range(4)], Task()
    async with Works(patience_seconds=0.01, at_a_time=2) as works:
        for number, task in enumerate(tasks):
            await told(works, task, IdempotencyKey("acme", KEY.method, str(number), b""))
        await told(works, other, IdempotencyKey("beta", KEY.method, "", b""))
        tasks[0].go.set()
        await asyncio.wait_for(other.entered.wait(), 10)
        assert [task.begun for task in tasks] == [1, 1, 0, 0]


async def test_only_so_many_run_at_a_time_and_all_end_with_the_service() -> None:
    tasks = [Task() for _ in range(3)]
    async with Works(patience_seconds=0.01, at_a_time=2) as works:
        for number, task in enumerate(tasks):
            await told(works, task, IdempotencyKey("acme", KEY.method, str(number), b""))
        assert [task.begun for task in tasks] == [1, 1, 0]
    assert [task.cancelled for task in tasks] == [True, True, False]
