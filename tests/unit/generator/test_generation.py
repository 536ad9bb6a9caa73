"""The verb over an engine in memory: order of checks, attestation, abort, and what a receipt says."""

import asyncio
import hashlib
import struct
from contextlib import aclosing
from dataclasses import replace

import pytest

from services.chassis.errors import Failure, Reason
from services.generator.asking import Done, More, Opening, TokenIds
from services.generator.conversation import Turn
from services.generator.engine import Finish
from tests.unit.generator.answering import World, ask
from tests.unit.generator.engines import settled, stored


async def test_an_answer_ends_with_a_receipt_that_says_what_the_engine_attested():
    parts = await (await World().open()).run(version="v", prompt=(Turn("user", "hey"),))
    opening, done = parts[0], parts[-1]
    assert [part.text for part in parts[1:-1]] == ["a", "b"]
    assert isinstance(done, Done)
    assert opening == done.opening
    assert (opening.attestation.version, opening.attestation.slot) == ("v", 0)
    assert opening.resolved_model == "model-v@v"
    assert (opening.prompt_tokens, done.completion_tokens, done.finish) == (3, 2, Finish.STOP)
    packed = struct.pack("<3i", *b"hey")
    assert opening.prompt_tokens_digest == f"sha256:{hashlib.sha256(packed).hexdigest()}"
    made = [token_id for part in parts[1:-1] for token_id in part.token_ids]
    assert len(made) == 2
    packed = struct.pack("<2i", *made)
    assert done.completion_digest == f"sha256:{hashlib.sha256(packed).hexdigest()}"
    assert opening.sampling.seed == 77
    assert [stage.name for stage in done.stages] == ["load", "prompt", "load_slot", "queue", "prefill", "generate"]


async def test_the_stages_follow_one_another_without_a_gap():
    world = await World().open()
    began = world.now() + 1 / 8
    done = (await world.run(version="v"))[-1]
    assert sum(stage.seconds for stage in done.stages) == world.now() - 1 / 8 - began
    assert all(stage.seconds > 0 for stage in done.stages)
    again = (await world.run(version="v"))[-1]
    assert "load_slot" not in [stage.name for stage in again.stages]


async def test_a_prefix_is_kept_for_one_tenant_and_one_loading_of_a_version():
    world = await World().open()
    for tenant, version in [("a", "v"), ("a", "v"), ("b", "v"), ("a", ""), ("a", "w")]:
        _ = [part async for part in world.verb.answer(ask(version=version), tenant)]
    await world.slots.unload("v")
    _ = [part async for part in world.verb.answer(ask(version="v"), "a")]
    first, same, *others = world.engine.salts
    assert first == same
    assert len({first, *others}) == 5


async def test_what_nobody_waits_for_gives_way_in_the_engine_too():
    world = await World().open()
    for background in (False, True):
        _ = [part async for part in world.verb.answer(replace(ask(), background=background), "a")]
    assert world.engine.background == [False, True]


async def test_the_base_is_attested_as_the_base():
    opening = (await (await World().open()).run())[0]
    assert (opening.attestation.slot, opening.attestation.version, opening.resolved_model) == (-1, "", "base")


async def test_not_a_word_leaves_when_the_slot_held_another_version():
    world = await World().open()
    world.engine.lie = "other"
    with pytest.raises(Failure) as caught:
        await anext(world.verb.answer(ask(version="v"), "tenant"))
    assert caught.value.reason is Reason.VERSION_MISMATCH


async def test_of_weights_that_compute_no_numbers_nothing_is_served_and_the_version_is_named():
    world = await World().open()
    world.engine.overflowing.add("v")
    with pytest.raises(Failure) as caught:
        await anext(world.verb.answer(ask(version="v"), "tenant"))
    assert (caught.value.reason, caught.value.variables["name"]) == (Reason.ANSWER_NOT_FINITE, "model-v@v")
    assert world.slots.running == 0
    assert (await world.run())[-1].completion_tokens == 2


async def test_several_answers_share_a_prompt_and_are_charged_and_counted_each():
    world = await World().open()
    parts = await world.run(version="v", n=3, temperature=1.0)
    assert [(part.choice, part.text) for part in parts[1:-1]] == [(n, text) for text in "ab" for n in range(3)]
    done = parts[-1]
    assert [(end.finish, end.completion_tokens) for end in done.choices] == [(Finish.STOP, 2)] * 3
    assert (done.completion_tokens, done.opening.prompt_tokens, done.opening.sampling.n) == (6, 5, 3)
    assert (world.slots.running, world.counted) == (0, [done])
    by_number = [token_id for n in range(3) for part in parts[1:-1] if part.choice == n for token_id in part.token_ids]
    packed = struct.pack("<6i", *by_number)
    assert done.completion_digest == f"sha256:{hashlib.sha256(packed).hexdigest()}"


@pytest.mark.parametrize("kind", ["unattested", "mute"])
async def test_several_answers_of_which_one_is_not_attested_are_refused(kind):
    world = await World().open()
    getattr(world.engine, kind).add(1)
    with pytest.raises(Failure) as caught:
        await world.run(version="v", n=2, temperature=1.0)
    assert caught.value.reason is Reason.VERSION_MISMATCH
    assert world.slots.running == 0


async def test_several_answers_without_chance_are_refused():
    with pytest.raises(Failure) as caught:
        await (await World().open()).run(n=2)
    assert (caught.value.reason, caught.value.field) == (Reason.FIELD_INVALID, "sampling.n")


async def test_a_request_for_several_answers_takes_as_many_places():
    world = await World().open()
    world.engine.gate.clear()
    async with aclosing(world.verb.answer(ask(n=5, temperature=1.0), "tenant")) as parts:
        await anext(parts)
        assert world.slots.running == 5
    assert world.slots.running == 0


async def test_the_files_of_a_version_stay_while_a_request_has_them_in_hand_and_no_longer():
    world = await World().open()
    world.engine.gate.clear()
    async with aclosing(world.verb.answer(ask(version="v"), "tenant")) as parts:
        await anext(parts)
        assert world.shelf.held == ["v"]
    assert world.shelf.held == []


async def test_a_text_of_which_the_tokenizer_makes_nothing_is_refused_by_its_field():
    with pytest.raises(Failure) as caught:
        await (await World().open()).run(prompt="")
    assert (caught.value.reason, caught.value.field) == (Reason.FIELD_INVALID, "text")


async def test_not_a_word_leaves_when_the_worker_loaded_another_base():
    world = await World().open()
    world.engine.lie_of_base = "sha256:another"
    with pytest.raises(Failure) as caught:
        await anext(world.verb.answer(ask(), "tenant"))
    assert caught.value.reason is Reason.VERSION_MISMATCH


async def test_a_version_that_the_caller_may_not_read_is_not_served_though_it_is_resident():
    world = await World().open()
    async with world.slots.place("owner", stored("hidden")):
        with pytest.raises(Failure) as caught:
            await world.run(version="hidden")
    assert caught.value.reason is Reason.VERSION_NOT_FOUND


async def test_a_caller_that_leaves_aborts_the_engines_work_and_gives_the_place_back():
    world = await World().open()
    world.engine.gate.clear()
    async with aclosing(world.verb.answer(ask(version="v"), "tenant")) as parts:
        assert isinstance(await anext(parts), Opening)
        assert isinstance(await anext(parts), More)
    await settled()
    assert world.engine.aborted == 1
    assert world.slots.running == 0
    assert world.slots.residents()[0].in_flight == 0


@pytest.mark.parametrize(
    ("read", "made"), [(1, (1, Finish.ABORT)), (2, (1, Finish.ABORT)), (3, (2, Finish.STOP)), (4, (2, Finish.STOP))]
)
async def test_an_answer_is_counted_once_with_the_tokens_that_were_made_wherever_its_caller_leaves(read, made):
    world = await World().open()
    async with aclosing(world.verb.answer(ask(version="v"), "tenant")) as parts:
        for _ in range(read):
            await anext(parts)
    [done] = world.counted
    assert (done.opening.attestation.version, done.opening.prompt_tokens) == ("v", 5)
    assert (done.completion_tokens, done.finish) == made


async def test_a_caller_that_is_cancelled_in_the_middle_is_counted():
    world = await World().open()
    world.engine.gate.clear()
    running = asyncio.create_task(world.run())
    await settled()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert [(done.completion_tokens, done.finish) for done in world.counted] == [(1, Finish.ABORT)]


async def test_what_never_began_is_not_counted():
    world = await World().open()
    world.engine.lie = "other"
    with pytest.raises(Failure):
        await world.run(version="v")
    with pytest.raises(Failure):
        await world.run(prompt="x" * 128)
    assert world.counted == []


async def test_a_prompt_that_leaves_no_room_is_refused_with_both_numbers():
    with pytest.raises(Failure) as caught:
        await (await World().open()).run(prompt="x" * 128)
    assert caught.value.reason is Reason.PROMPT_TOO_LONG
    assert caught.value.variables["tokens"] == "128"
    assert caught.value.sentence.endswith("Shorten it.")


async def test_the_context_window_bounds_what_was_asked_for():
    done = (await (await World().open()).run(prompt="x" * 100, max_tokens=500, seed=3))[-1]
    assert (done.opening.sampling.max_tokens, done.opening.sampling.seed) == (28, 3)


async def test_token_ids_outside_the_vocabulary_are_refused():
    with pytest.raises(Failure) as caught:
        await (await World().open()).run(prompt=TokenIds((1, 256)))
    assert caught.value.reason is Reason.FIELD_INVALID


async def tokens_of(world, version, role="user"):
    return await world.verb.tokens((Turn(role, "hey"),), await world.verb.target(version), "tenant")


async def test_a_version_that_brings_its_template_is_rendered_with_it_and_the_receipt_names_it():
    world = await World().open()
    opening = (await world.run(version="styled", prompt=(Turn("user", "hey"),)))[0]
    written = "tenant sha256:own <s> hey"
    assert opening.prompt_tokens == len(written)
    assert opening.template_digest == "sha256:own"
    assert await tokens_of(world, "styled") == [ord(letter) for letter in written]
    assert await tokens_of(world, "v") == [ord(letter) for letter in "hey"]


async def test_the_template_of_a_base_that_a_tenant_brought_is_rendered_apart_too():
    world = await World().open()
    world.host.base = replace(world.host.base, public=False)
    assert bytes(await tokens_of(world, "")).decode() == "tenant sha256:template <s> hey"


async def test_a_conversation_that_the_template_refuses_is_refused_with_its_words():
    with pytest.raises(Failure) as caught:
        await tokens_of(await World().open(), "", role="tool")
    assert caught.value.reason is Reason.TEMPLATE_UNRENDERABLE
    assert "no tools" in caught.value.sentence


async def test_a_conversation_of_which_the_template_makes_nothing_is_refused():
    world = await World().open()
    with pytest.raises(Failure) as caught:
        await world.verb.tokens((Turn("user", ""),), await world.verb.target(""), "tenant")
    assert caught.value.reason is Reason.TEMPLATE_UNRENDERABLE


async def test_another_base_is_not_found():
    with pytest.raises(Failure) as caught:
        await (await World().open()).run(base="other")
    assert caught.value.reason is Reason.BASE_NOT_FOUND
