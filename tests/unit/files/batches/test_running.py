"""Batches run to their end: each line once, resumed, fenced, cancelled and expired."""

import asyncio
import json

import pytest

from services.chassis.errors import Failure, Reason
from services.files.batches.asking import Answer, Unauthorized
from services.files.batches.batch import Endpoint, Order, State
from services.files.batches.lines import Checked
from services.files.batches.runs import Result, Superseded
from services.files.files import Purpose
from tests.unit.files.batches.office import ANNA, ANYTIME, Gateway, Office, answered
from tests.unit.files.shop import Shop


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


async def test_an_assertion_that_is_no_longer_taken_ends_the_run_and_not_the_batch(shop: Shop):
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


async def test_a_peer_that_is_late_ends_no_window(shop: Shop):
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
    with pytest.raises(Failure, check=lambda failure: failure.reason is Reason.BATCH_ENDED):
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
    with pytest.raises(Failure, check=lambda failure: failure.reason is Reason.BATCHES_EXHAUSTED):
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
    with pytest.raises(Failure, check=lambda failure: failure.reason is Reason.FIELD_INVALID):
        await office.batches.create("t", ANNA, Order(file, Endpoint.COMPLETIONS, 60, 3600), ANYTIME)
