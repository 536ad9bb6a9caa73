"""What the stages of an answer may take of its deadline, and what is told of them."""

import asyncio
from dataclasses import replace

import pytest

from gateway.asking.stages import BUDGETS, Share
from gateway.generation import StageTiming
from services.chassis.errors import Failure, Reason
from tests.unit.gateway.asking.stock import asking, heard, world


async def test_each_stage_has_its_part_of_the_requests_deadline(tmp_path, monkeypatch):
    place = world(tmp_path, "Nine crowns [1].")
    monkeypatch.setattr("gateway.asking.asker.remaining", lambda: 18.0)
    answer = await heard(place, asking(explain=True))
    budgets = {it.stage: it.budget_seconds for it in answer.last.stages}
    expected = {"resolve": 3.6, "retrieve": 5.4, "decide": None, "prompt": 3.6, "verify": 9.0}
    assert budgets == {stage: seconds and pytest.approx(seconds) for stage, seconds in expected.items()}


async def test_a_prompt_that_nobody_counts_in_time_takes_no_more_than_its_part(tmp_path, monkeypatch):
    monkeypatch.setitem(BUDGETS, "prompt", Share(0.01, 5.0))
    monkeypatch.setattr("gateway.asking.asker.remaining", lambda: 1.0)
    place = world(tmp_path, "Nine crowns [1].")

    async def hangs(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(place.generator, "size", hangs)
    with pytest.raises(Failure) as failure:
        await heard(place, asking())
    assert failure.value.reason is Reason.DEADLINE_EXCEEDED


async def test_the_stages_of_a_search_are_told_once_each_with_what_they_had_and_decided(tmp_path):
    place = world(tmp_path, "Nine crowns [1].")
    timings = (StageTiming("embed", 30.0, 1), StageTiming("rerank", 60.0, 8))
    for unranked, decision in (("", "its order"), ("it is away", "the order of the search itself")):
        place.retriever.found = replace(place.retriever.found, timings=timings, unranked=unranked)
        stages = {it.stage: it for it in (await heard(place, asking(explain=True))).last.stages}
        assert (stages["rerank"].seconds, stages["rerank"].input_size, stages["rerank"].decision) == (60, 8, decision)
        # Theirs are no part of the search's own.
        assert stages["retrieve"].seconds < 30
