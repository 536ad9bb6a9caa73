"""Batches run to their end: each line once, paced by the gateway's word, resumed, fenced, cancelled and expired."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest

from services.chassis.context import Rights, Role, Scope
from services.chassis.errors import Failure, Reason
from services.chassis.idempotency import IdempotencyKey
from services.chassis.logs import logger
from services.files.batches.asking import Answer, Later, Unauthorized
from services.files.batches.batch import Batch, Creator, Endpoint, Order, State
from services.files.batches.batches import Batches
from services.files.batches.lines import Checked
from services.files.batches.outputs import Outputs
from services.files.batches.pace import Activity, Pace, Whom
from services.files.batches.runner import Clocks, Means, Measures, Runner
from services.files.batches.runs import Result, Runs, Superseded
from services.files.door import GatewayDoor
from services.files.files import Purpose
from tests.answering_door import answering_door
from tests.unit.files.shop import Shop

ANYTIME = IdempotencyKey("t", "CreateBatch", "", b"")
ANNA = Creator("anna", Rights(frozenset({Role.MEMBER}), frozenset({Scope.INFERENCE, Scope.FILES_WRITE})))
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}}
Say = Callable[[int, int], Answer | Later | Exception]


class Gateway:
    """A door that says what a test wants: of the line's number and how often it was asked."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self.asked: list[int] = []
        self.ids: dict[int, set[str]] = {}
        self.assertions: set[str] = set()
        self.open = self.most_open = 0
        self.held: set[int] = set()

    async def ask(self, endpoint: Endpoint, body: bytes, request_id: str, assertion: str) -> Answer | Later:
        number = json.loads(body)["n"]
        self.asked.append(number)
        self.ids.setdefault(number, set()).add(request_id)
        self.assertions.add(assertion)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await asyncio.sleep(0)
            if number in self.held:
                await asyncio.Event().wait()
            said = self._say(number, Counter(self.asked)[number])
            if isinstance(said, Exception):
                raise said
            return said
        finally:
            self.open -= 1


def answered(number: int, _: int) -> Answer | Later | Exception:
    return Answer(200, {"n": number, "usage": USAGE})


class Office:
    """Batches over a shop."""

    def __init__(self, shop: Shop, gateway: Gateway, holder: str = "one", at_once: int = 8) -> None:
        self.shop = shop
        self.refused: Failure | None = None
        self.runs = Runs(shop.database, holder, 30.0, 2, lambda: shop.now)
        outputs = Outputs(self.runs, shop.files, shop.blobs, shop.folder / "staging")
        clock = asyncio.get_running_loop().time
        self.pace = Pace(2, clock)
        means = Means(self.runs, outputs, shop.blobs, gateway, self.pace, self.acting_for)
        measures = Measures(at_once, 2, 0.02, 10.0, 0.0)
        self.runner = Runner(means, measures, Clocks(lambda: shop.now, clock), logger("files"))
        self.batches = Batches(shop.database, shop.files, 3, lambda: shop.now, shop.new_id, self.runner.wake)

    @asynccontextmanager
    async def acting_for(self, tenant: str, creator: Creator) -> AsyncIterator[Any]:
        if self.refused is not None:
            raise self.refused
        self.assertion = f"{creator.principal} of {tenant}"
        self.acted = creator
        yield self

    async def order(self, count: int, content: bytes = b"", **changes: Any) -> str:
        text = content or lines(*range(1, count + 1))
        self.input = await self.shop.store(text, purpose=Purpose.BATCH)
        order = Order(self.input, Endpoint.COMPLETIONS, 3600, 3600, **changes)
        return (await self.batches.create("t", ANNA, order, ANYTIME)).batch

    async def order_of(self, tenant: str, content: bytes) -> str:
        """A batch of another tenant's."""
        file = await self.shop.store(content, purpose=Purpose.BATCH, tenant=tenant)
        order = Order(file, Endpoint.COMPLETIONS, 3600, 3600)
        return (await self.batches.create(tenant, ANNA, order, IdempotencyKey(tenant, "CreateBatch", "", b""))).batch

    async def until(self, batch: str, holds: Callable[[Batch], bool], tenant: str = "t") -> Batch:
        """Run until something holds of the batch."""
        async with self.running():
            return await self.seen(batch, holds, tenant)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        running = asyncio.create_task(self.runner.run())
        try:
            yield
        finally:
            running.cancel()
            await asyncio.wait([running])

    async def seen(self, batch: str, holds: Callable[[Batch], bool], tenant: str) -> Batch:
        """Look until something holds of the batch."""
        for _ in range(3000):
            if holds(found := await self.batches.get(tenant, batch)):
                return found
            await asyncio.sleep(0.01)
        raise AssertionError(f"never held of {found}")

    async def ended(self, batch: str, tenant: str = "t") -> Batch:
        return await self.until(batch, lambda found: found.ended_at is not None, tenant)

    async def lines(self, file: str) -> list[dict[str, Any]]:
        content = b"".join([piece.content async for piece in self.shop.files.read("t", file, 0)])
        return [json.loads(line) for line in content.splitlines()]


def lines(*numbers: int, model: str = "base") -> bytes:
    """A batch's input."""
    whole = [
        {"custom_id": f"c{n}", "method": "POST", "url": "/v1/completions", "body": {"model": model, "n": n}}
        for n in numbers
    ]
    return "\n".join(map(json.dumps, whole)).encode()


@pytest.fixture
def shop(shop: Shop) -> Shop:
    """One with room for files of requests."""
    return Shop(shop.database, shop.blobs, shop.folder, 100_000)


async def test_every_line_is_answered_once_in_the_name_of_the_creator_and_the_answers_are_in_order(shop: Shop):
    gateway = Gateway(answered)
    office = Office(shop, gateway)
    found = await office.ended(await office.order(20, metadata={"for": "test"}))
    assert (found.state, found.total, found.completed, found.failed) == (State.COMPLETED, 20, 20, 0)
    assert (found.tokens.prompt, found.tokens.cached, found.tokens.completion) == (60, 20, 40)
    assert found.error_file == ""
    assert sorted(gateway.asked) == list(range(1, 21))
    assert gateway.assertions == {"anna of t"}
    assert gateway.most_open == 2
    lines = await office.lines(found.output_file)
    assert [line["custom_id"] for line in lines] == [f"c{n}" for n in range(1, 21)]
    first = lines[0]
    assert (first["error"], first["response"]["status_code"], first["response"]["body"]["n"]) == (None, 200, 1)
    assert len({line["id"] for line in lines}) == 20
    output = await shop.files.get("t", found.output_file)
    assert (output.purpose, output.expires_at) == (Purpose.BATCH_OUTPUT, shop.now + 3600)


async def test_what_is_refused_stands_in_the_error_file_and_the_rest_in_the_output(shop: Shop):
    office = Office(shop, Gateway(lambda n, _: Answer(400, {"error": {"code": "x"}}) if n == 2 else answered(n, 0)))
    found = await office.ended(await office.order(3))
    assert (found.state, found.completed, found.failed) == (State.COMPLETED, 2, 1)
    (error,) = await office.lines(found.error_file)
    assert (error["custom_id"], error["response"]["status_code"]) == ("c2", 400)
    assert [line["custom_id"] for line in await office.lines(found.output_file)] == ["c1", "c3"]


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
    gateway = Gateway(lambda n, times: Later(0.4, late=late) if (n, times) == (1, 1) else answered(n, 0))
    office = Office(shop, gateway)
    found = await office.ended(await office.order(8))
    assert (found.state, found.completed) == (State.COMPLETED, 8)
    assert sorted(gateway.asked[:8]) == list(range(1, 9))
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
    async with asyncio.timeout(5):
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
    _, left = await asyncio.wait(waiting, timeout=2)
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
        async with GatewayDoor(door.address) as gateway:

            async def said(number: int) -> Answer | Later:
                body = json.dumps({"n": number}).encode()
                return await gateway.ask(Endpoint.COMPLETIONS, body, "id", "eyJ")

            assert await said(1) == Later(1.0, Whom.EVERYBODY)
            assert await said(2) == Later(7.0, Whom.TENANT)
            assert await said(4) == Later(15.0, Whom.MODEL)
            assert isinstance(await said(2), Answer)
            assert await said(3) == Later(None, Whom.MODEL, late=Answer(504, {"error": {"code": "deadline_exceeded"}}))


async def test_a_bad_input_fails_the_batch_before_anything_is_asked(shop: Shop):
    gateway = Gateway(answered)
    office = Office(shop, gateway)
    found = await office.ended(await office.order(0, b'{"custom_id": "a"}\nnothing'))
    assert found.state is State.FAILED
    assert [(each.line, each.code) for each in found.problems] == [(1, "invalid_method"), (2, "invalid_json_line")]
    assert gateway.asked == []


async def test_a_run_that_was_cut_off_goes_on_and_asks_no_answered_line_again(shop: Shop):
    gateway = Gateway(answered)
    gateway.held = {4}
    office = Office(shop, gateway)
    batch = await office.order(6)
    await office.until(batch, lambda found: found.completed == 5)
    kept = await office.runs.done(await office.batches.get("t", batch))
    again = Gateway(answered)
    # The input may be deleted meanwhile, and a sweep leaves its bytes.
    await shop.files.delete("t", office.input)
    await shop.sweep()
    found = await (later := Office(shop, again)).ended(batch)
    assert (found.state, found.completed) == (State.COMPLETED, 6)
    assert later.acted == office.acted == ANNA
    assert set(again.asked) == set(range(1, 7)) - kept
    assert gateway.ids[4] == again.ids[4]
    await shop.sweep()
    assert not shop.blobs.holds_now(found.input_sha256)


async def test_an_assertion_that_is_no_longer_taken_ends_the_run_and_not_the_batch(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("services.files.batches.runner._AGAIN_SECONDS", 0.01)
    gateway = Gateway(lambda n, times: Unauthorized() if times == 1 and n == 2 else answered(n, 0))
    found = await (office := Office(shop, gateway)).ended(await office.order(3))
    assert (found.state, found.completed, found.failed) == (State.COMPLETED, 3, 0)


async def test_a_tenant_that_is_disabled_fails_its_batch_with_the_reason(shop: Shop):
    office = Office(shop, Gateway(answered))
    office.refused = Failure(Reason.TENANT_DISABLED, name="t")
    found = await office.ended(await office.order(3))
    assert (found.state, [each.code for each in found.problems]) == (State.FAILED, ["tenant_disabled"])


async def test_answers_that_were_kept_go_with_a_batch_that_fails(shop: Shop):
    gateway = Gateway(answered)
    gateway.held = {3}
    office = Office(shop, gateway)
    batch = await office.order(3)
    await office.until(batch, lambda found: found.completed == 2)
    office.refused = Failure(Reason.TENANT_DISABLED, name="t")
    found = await office.ended(batch)
    assert (found.state, await office.runs.done(found)) == (State.FAILED, set())


async def test_a_peer_that_is_late_ends_no_window(shop: Shop, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("services.files.batches.runner._AGAIN_SECONDS", 0.01)
    gateway = Gateway(lambda n, times: TimeoutError() if times == 1 else answered(n, 0))
    found = await (office := Office(shop, gateway)).ended(await office.order(1))
    assert (found.state, found.completed) == (State.COMPLETED, 1)


async def test_a_line_that_nobody_can_ask_fails_its_batch_and_not_the_process(shop: Shop):
    office = Office(shop, Gateway(answered))
    half = {"custom_id": "\ud800", "method": "POST", "url": "/v1/completions", "body": {"n": 1}}
    found = await office.ended(await office.order(0, json.dumps(half).encode()))
    assert (found.state, [each.code for each in found.problems]) == (State.FAILED, ["invalid_json_line"])


async def test_a_cancelled_batch_keeps_its_answers_and_names_what_was_not_asked(shop: Shop):
    gateway = Gateway(answered)
    gateway.held = {3}
    office = Office(shop, gateway)
    batch = await office.order(4)
    await office.until(batch, lambda found: found.completed == 3)
    assert (await office.batches.cancel("t", batch)).state is State.CANCELLING
    found = await office.ended(batch)
    assert (found.state, found.completed) == (State.CANCELLED, 3)
    assert [line["custom_id"] for line in await office.lines(found.output_file)] == ["c1", "c2", "c4"]
    (error,) = await office.lines(found.error_file)
    assert (error["custom_id"], error["response"], error["error"]["code"]) == ("c3", None, "batch_cancelled")
    # A repeat changes nothing; what has ended otherwise cannot be cancelled.
    assert await office.batches.cancel("t", batch) == found


async def test_a_batch_is_cancelled_while_it_runs(shop: Shop):
    gateway = Gateway(answered)
    gateway.held = {1, 2}
    office = Office(shop, gateway)
    batch = await office.order(4)
    running = asyncio.create_task(office.until(batch, lambda found: found.ended_at is not None))
    for _ in range(3000):
        if gateway.open == 2:
            break
        await asyncio.sleep(0.01)
    await office.batches.cancel("t", batch)
    found = await running
    assert (found.state, found.completed, gateway.open) == (State.CANCELLED, 0, 0)
    assert found.output_file == ""


async def test_a_batch_whose_window_ends_expires_with_what_it_has(shop: Shop):
    gateway = Gateway(answered)
    gateway.held = {2}
    office = Office(shop, gateway)
    batch = await office.order(3)
    await office.until(batch, lambda found: found.completed == 2)
    shop.now += 3600
    found = await office.ended(batch)
    assert (found.state, found.completed) == (State.EXPIRED, 2)
    (error,) = await office.lines(found.error_file)
    assert (error["custom_id"], error["error"]["code"]) == ("c2", "batch_expired")
    with pytest.raises(Failure, match="BATCH_ENDED"):
        await office.batches.cancel("t", batch)


async def test_two_replicas_never_run_one_batch_and_who_lost_its_lease_writes_nothing(shop: Shop):
    one, other = Office(shop, Gateway(answered), "one"), Office(shop, Gateway(answered), "other")
    batch = await one.order(1)
    first = await one.runs.claim(())
    assert first is not None
    assert await other.runs.claim(()) is None
    # The same replica after a restart takes it at once; its former life may not write any more.
    again = await one.runs.claim(())
    assert again is not None
    result = Result(1, True, b"{}\n")
    for write in (
        lambda: one.runs.record(first, result),
        lambda: one.runs.renew(first),
        lambda: one.runs.begin(first, Checked(1, "", ())),
        lambda: one.runs.finalize(first, State.COMPLETED),
        lambda: one.runs.end(first, lambda session, row: None),
    ):
        with pytest.raises(Superseded):
            await write()
    await one.runs.record(again, result)
    await one.runs.record(again, result)
    assert (await one.batches.get("t", batch)).completed == 1


async def test_of_one_tenant_some_run_and_others_wait_for_a_place(shop: Shop):
    office = Office(shop, Gateway(answered))
    for _ in range(3):
        await office.order(1)
    with pytest.raises(Failure, match="BATCHES_EXHAUSTED"):
        await office.order(1)
    claimed = [await office.runs.claim(()) for _ in range(2)]
    names = [run.batch.batch for run in claimed if run is not None]
    # Claimed twice by the same replica, which says that it runs neither: the oldest.
    assert len(set(names)) == 1
    second = await office.runs.claim(names[:1])
    assert second is not None
    assert await office.runs.claim([names[0], second.batch.batch]) is None


async def test_a_file_of_another_purpose_is_no_input(shop: Shop):
    office = Office(shop, Gateway(answered))
    file = await shop.store(b"x", purpose=Purpose.EVALS)
    with pytest.raises(Failure, match="FIELD_INVALID"):
        await office.batches.create("t", ANNA, Order(file, Endpoint.COMPLETIONS, 60, 3600), ANYTIME)
