"""What a service gets from the chassis besides its calls."""

import asyncio
import threading
import uuid

import pytest

from services.chassis.context import Bearer, RequestContext, Role, current, require, serving
from services.chassis.errors import Failure, Reason
from services.chassis.executor import Executor
from services.chassis.logs import logger
from services.chassis.runtime import Background, new_id
from services.chassis.telemetry import Bounded
from tests.harness.timeouts import HANG_SECONDS


def request_of(*roles: Role) -> RequestContext:
    return RequestContext("acme", "p", frozenset(roles), Bearer("s3cr3t"), "id", None, "/S/M")


async def test_blocking_work_keeps_the_request_and_leaves_the_loop() -> None:
    executor = Executor(1, name="t")
    with serving(request_of(Role.VIEWER)):
        tenant, thread = await executor.run(lambda: (current().tenant_id, threading.current_thread()))
    assert tenant == "acme"
    assert thread is not threading.main_thread()
    await asyncio.to_thread(executor.close)


async def test_a_queue_of_blocking_work_has_an_end() -> None:
    executor = Executor(1, name="t", waiting=1)
    go = threading.Event()
    held = [asyncio.create_task(executor.run(go.wait)) for _ in range(2)]
    await asyncio.gather(*(asyncio.wait([task], timeout=0) for task in held))
    with pytest.raises(Failure) as failure:
        await executor.run(int)
    assert failure.value.reason is Reason.OVERLOADED
    go.set()
    await asyncio.gather(*held)
    assert await executor.run(int) == 0
    await asyncio.to_thread(executor.close)


def test_ids_are_uuids_that_sort_by_creation() -> None:
    ids = [new_id() for _ in range(100)]
    assert len(set(ids)) == 100
    assert {uuid.UUID(one).version for one in ids} == {7}
    assert {uuid.UUID(one).variant for one in ids} == {uuid.RFC_4122}
    assert [one[:13] for one in ids] == sorted(one[:13] for one in ids)


async def test_background_work_is_cancelled_with_the_server() -> None:
    stopped = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    began = asyncio.Event()

    async def first() -> None:
        began.set()
        await work()

    async with Background(logger("t")) as background:
        background.spawn(first())
        await began.wait()
    assert stopped.is_set()
    assert not background.failed.is_set()


async def test_background_work_that_fails_is_seen() -> None:
    async def work() -> None:
        raise ValueError

    async with Background(logger("t")) as background:
        background.spawn(work())
        async with asyncio.timeout(HANG_SECONDS):
            await background.failed.wait()


def test_a_role_is_required_by_name() -> None:
    with serving(request_of(Role.MEMBER)):
        assert require(Role.MEMBER, Role.OWNER).tenant_id == "acme"
        with pytest.raises(Failure) as failure:
            require(Role.ADMIN)
    assert failure.value.reason is Reason.ROLE_MISSING


def test_a_request_prints_no_assertion() -> None:
    assert "s3cr3t" not in repr(request_of())


def test_outside_of_a_request_there_is_no_tenant() -> None:
    with pytest.raises(RuntimeError):
        current()


def test_labels_that_users_choose_are_bounded() -> None:
    label = Bounded(2)
    assert [label(name) for name in ("a", "b", "c", "a", "d")] == ["a", "b", "other", "a", "other"]
