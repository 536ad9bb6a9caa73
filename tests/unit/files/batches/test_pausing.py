"""Batches are paced by the gateway's word: who waits for what, and whom that holds up."""

import asyncio
import json
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from services.chassis.logs import logger
from services.files.batches.asking import Answer, Later
from services.files.batches.batch import Endpoint, State
from services.files.batches.pace import Activity, Pace, Whom
from services.files.door import GatewayDoor
from tests.answering_door import answering_door
from tests.harness.timeouts import HANG_SECONDS
from tests.unit.files.batches.office import Gateway, Office, answered, lines
from tests.unit.files.shop import Shop


async def test_what_the_gateway_puts_off_is_asked_again_under_the_same_id(shop: Shop):
    gateway = Gateway(lambda n, times: Later(0.01) if times < 3 else answered(n, 0))
    office = Office(shop, gateway)
    found = await office.ended(await office.order(3))
    assert (found.state, found.completed) == (State.COMPLETED, 3)
    assert Counter(gateway.asked) == {1: 3, 2: 3, 3: 3}
    assert all(len(ids) == 1 for ids in gateway.ids.values())


async def test_a_pause_that_one_line_is_told_all_heed(shop: Shop):
    gateway = Gateway(lambda n, times: Later(0.4) if (n, times) == (1, 1) else answered(n, 0))
    office = Office(shop, gateway)
    began = asyncio.get_running_loop().time()
    await office.ended(await office.order(8))
    # Line 2 was asked beside line 1; the others waited.
    assert asyncio.get_running_loop().time() - began >= 0.4


async def test_a_line_that_is_late_each_time_is_told_so_in_the_end(shop: Shop):
    late = Answer(504, {"error": {"code": "deadline_exceeded"}})
    gateway = Gateway(lambda n, times: Later(0.01, late=late) if n == 2 else answered(n, 0))
    office = Office(shop, gateway)
    found = await office.ended(await office.order(3))
    assert (found.state, found.completed, found.failed, gateway.asked.count(2)) == (State.COMPLETED, 2, 1, 3)
    (error,) = await office.lines(found.error_file)
    assert (error["custom_id"], error["response"]["status_code"]) == ("c2", 504)


async def test_of_a_line_that_was_late_the_others_hear_nothing(shop: Shop):
    late = Answer(504, {"error": {"code": "deadline_exceeded"}})
    # It comes back in another process alone, however slow the others' rows are written.
    gateway = Gateway(lambda n, times: Later(3600.0, late=late) if (n, times) == (1, 1) else answered(n, 0))
    office = Office(shop, gateway)
    batch = await office.order(8)
    await office.until(batch, lambda found: found.completed == 7)
    assert sorted(gateway.asked) == list(range(1, 9))
    found = await Office(shop, gateway).ended(batch)
    assert (found.state, found.completed) == (State.COMPLETED, 8)
    assert gateway.asked[8:] == [1]


@pytest.mark.parametrize(
    ("whom", "others"),
    [
        (Whom.TENANT, [("another", "own"), ("another", "base")]),
        (Whom.MODEL, [("another", "own"), ("another", "base"), ("one", "base")]),
    ],
)
async def test_a_limit_of_one_tenants_own_and_a_model_of_its_that_is_not_ready_hold_up_nobody_else(
    whom: Whom, others: list[tuple[str, str]]
):
    pace = Pace(1, asyncio.get_running_loop().time)
    pace.later(whom, 3600.0, "one", "own")
    entered: list[tuple[str, str]] = []

    async def enter(tenant: str, model: str) -> None:
        async with pace.place(tenant, model, Activity()):
            entered.append((tenant, model))

    everybody = {("one", "own"), ("one", "base"), ("another", "own"), ("another", "base")}
    waiting = [asyncio.create_task(enter(*each)) for each in everybody - set(others)]
    await asyncio.sleep(0)
    async with asyncio.timeout(HANG_SECONDS):
        for each in others:
            await enter(*each)
    assert entered == others
    assert {each for each in everybody if pace.waits(*each)} == everybody - set(others)
    for task in waiting:
        task.cancel()


async def test_once_a_line_has_its_answer_nobody_waits_on_for_a_model_that_was_not_ready():
    pace = Pace(2, asyncio.get_running_loop().time)
    pace.later(Whom.MODEL, 3600.0, "one", "own")
    entered: list[int] = []

    async def enter(number: int) -> None:
        async with pace.place("one", "own", Activity()):
            entered.append(number)

    waiting = [asyncio.create_task(enter(number)) for number in range(3)]
    await asyncio.sleep(0.01)
    assert entered == []
    # Whose turn it is may leave, and keeps nobody waiting.
    waiting.pop(0).cancel()
    await asyncio.sleep(0.01)
    pace.answered("one", "own")
    _, left = await asyncio.wait(waiting, timeout=HANG_SECONDS)
    for task in left:
        task.cancel()
    assert entered == [1, 2]


async def test_what_is_not_ready_is_tried_one_line_at_a_time_ever_more_seldom_and_leaves_a_place_to_others():
    now = 0.0
    pace = Pace(2, lambda: now)
    for _ in range(2):
        # Both lines that were under way are told so; that is one word.
        pace.later(Whom.MODEL, 15.0, "one", "own")
        pace.later(Whom.MODEL, 15.0, "two", "own")
    open_at = []
    for _ in range(7):
        while pace.waits("one", "own"):
            now += 1.0
        open_at.append(now)
        pace.later(Whom.MODEL, 15.0, "one", "own")
    assert [later - sooner for sooner, later in pairwise([0.0, *open_at])] == [15, 30, 60, 120, 240, 240, 240]
    now += 300.0
    inside: list[str] = []
    leave = asyncio.Event()

    async def enter(tenant: str, model: str) -> None:
        async with pace.place(tenant, model, Activity()):
            inside.append(tenant)
            await leave.wait()

    sick = [asyncio.create_task(enter(tenant, "own")) for tenant in ("one", "one", "two", "two")]
    await asyncio.sleep(0.01)
    healthy = asyncio.create_task(enter("three", "own"))
    await asyncio.sleep(0.01)
    assert inside == ["one", "three"]
    # Once it answers all its lines go on.
    pace.answered("one", "own")
    pace.answered("two", "own")
    leave.set()
    await asyncio.wait_for(asyncio.gather(healthy, *sick), 5)
    assert sorted(inside) == ["one", "one", "three", "two", "two"]


async def test_a_model_of_one_tenants_that_is_not_ready_holds_up_no_other_model_and_no_other_tenant(shop: Shop):
    gateway = Gateway(lambda n, _: Later(3600.0, Whom.MODEL) if n > 100 else answered(n, 0))
    office = Office(shop, gateway)
    await office.order(0, lines(101, 102, 103, model="own"))
    await office.order_of("u", lines(104, 105, model="own"))
    base, other = await office.order(9), await office.order_of("v", lines(11, 12, 13, model="own"))
    assert (await office.ended(base)).completed == 9
    assert (await office.ended(other, "v")).completed == 3
    # Of each that is not ready what was under way when that was told, and no more.
    assert {n for n in gateway.asked if n > 100} <= {101, 102, 104, 105}
    assert max(Counter(gateway.asked).values()) == 1


async def test_tenants_who_wait_for_their_own_limits_keep_nobody_from_running_and_go_on_when_they_may(shop: Shop):
    open_again = False

    def limited(n: int, times: int) -> Answer | Later | Exception:
        return answered(n, times) if n < 100 or open_again else Later(0.3, Whom.TENANT)

    gateway = Gateway(limited)
    office = Office(shop, gateway, at_once=4)
    waiting = [(tenant, await office.order_of(tenant, lines(101, 102, 103))) for tenant in ("a", "b") for _ in range(2)]
    async with office.running():
        for tenant, batch in waiting:
            await office.seen(batch, lambda found: found.state is State.IN_PROGRESS, tenant)
        for tenant in ("c", "d"):
            late = await office.order_of(tenant, lines(1, 2, 3))
            await office.seen(late, lambda found: found.completed == 3, tenant)
        open_again = True
        for tenant, batch in waiting:
            await office.seen(batch, lambda found: found.state is State.COMPLETED and found.completed == 3, tenant)


async def test_of_those_that_nobody_runs_whose_tenant_runs_the_fewest_comes_first(shop: Shop):
    office = Office(shop, Gateway(answered))
    first, _ = await office.order_of("a", lines(1)), await office.order_of("a", lines(1))
    late = await office.order_of("b", lines(1))
    taken: list[str] = []
    for _ in range(2):
        run = await office.runs.claim(taken)
        assert run is not None
        taken.append(run.batch.batch)
    assert taken == [first, late]

    def turn(tenant: str, model: str) -> tuple[bool, float] | None:
        return {"a": (False, 2.0), "b": (False, 1.0)}[tenant]

    run = await office.runs.claim([], turn)
    assert run is not None
    assert run.batch.batch == late
    assert await office.runs.claim([], lambda tenant, model: None) is None


async def test_a_run_that_asks_is_not_set_aside_for_another(shop: Shop):
    gateway = Gateway(answered)
    gateway.held = {1}
    office = Office(shop, gateway, at_once=1)
    batch = await office.order_of("a", lines(*range(1, 61)))
    await office.order_of("b", lines(100))
    # Over many looks one of its lines is at the door.
    await office.until(batch, lambda found: found.completed == 59, "a")
    assert 100 not in gateway.asked


async def test_a_run_that_goes_on_while_another_is_taken_is_not_set_aside(shop: Shop, monkeypatch: pytest.MonkeyPatch):
    def say(number: int, _: int) -> Answer | Later | Exception:
        if number != 1:
            return answered(number, 0)
        # Its limit opens soon, and then its line is at the door for as long as the test goes on.
        gateway.held = {1}
        return Later(0.3, Whom.TENANT)

    gateway = Gateway(say)
    office = Office(shop, gateway, at_once=1)
    await office.order_of("a", lines(1))
    other = await office.order_of("b", lines(100))
    claim = office.runs.claim

    async def slowly(running: Any, turn: Any) -> Any:
        run = await claim(running, turn)
        for _ in range(3000):
            if run is None or not running or gateway.open:
                break
            await asyncio.sleep(0.01)
        return run

    monkeypatch.setattr(office.runs, "claim", slowly)
    async with office.running():
        await office.seen(other, lambda found: found.state is State.COMPLETED, "b")
        assert (gateway.open, gateway.asked) == (1, [1, 1, 100])


async def test_the_door_tells_a_limit_of_the_tenants_own_from_load_of_the_gateways_and_both_from_a_late_line():
    with answering_door() as door:
        door.overloaded, door.limited, door.late, door.unready = {1}, {2}, {3}, {4}
        async with GatewayDoor(door.address, logger("files")) as gateway:

            async def said(number: int) -> Answer | Later:
                body = json.dumps({"n": number}).encode()
                return await gateway.ask(Endpoint.COMPLETIONS, body, "id", "eyJ")

            assert await said(1) == Later(1.0, Whom.EVERYBODY)
            assert await said(2) == Later(7.0, Whom.TENANT)
            assert await said(4) == Later(15.0, Whom.MODEL)
            assert isinstance(await said(2), Answer)
            assert await said(3) == Later(None, Whom.MODEL, late=Answer(504, {"error": {"code": "deadline_exceeded"}}))
