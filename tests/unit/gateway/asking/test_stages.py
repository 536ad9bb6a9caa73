"""What each stage may take of a deadline, to the second, and what happens at its end."""

import asyncio
from math import prod

import pytest

from gateway.asking.stages import BUDGETS, BudgetSpentError, Share, Stages
from services.chassis.errors import Failure, Reason
from tests.harness.clock import ManualClock
from tests.unit.gateway.tracing import untraced


def stages(remaining, **named):
    return Stages(lambda: 0.0, lambda: remaining, untraced, **named)


async def budget(of, name, budget=""):
    async with of.stage(name, budget) as running:
        return running.budget_seconds


OF_TWO_SECONDS = {
    "rewrite": 0.2,
    "resolve": 0.4,
    "retrieve": 0.6,
    "retrieve shallow": 0.4,
    "summarize": 1.0,
    "count": 0.6,
    "prompt": 0.4,
    "verify": 1.0,
    "check": 1.0,
}
OF_A_DAY = {
    "rewrite": 5.0,
    "resolve": 10.0,
    "retrieve": 20.0,
    "retrieve shallow": 10.0,
    "summarize": 120.0,
    "count": 20.0,
    "prompt": 10.0,
    "verify": 10.0,
    "check": 20.0,
}


@pytest.mark.parametrize(("remaining", "expected"), [(2.0, OF_TWO_SECONDS), (86_400.0, OF_A_DAY), (None, OF_A_DAY)])
async def test_a_stage_has_its_share_of_what_is_left_and_never_more_than_its_most(remaining, expected):
    assert {name: await budget(stages(remaining), name) for name in BUDGETS} == pytest.approx(expected)


async def test_shares_are_of_what_is_left_when_a_stage_begins():
    left = iter([2.0, 1.0])
    running = Stages(lambda: 0.0, lambda: next(left), untraced)
    given = [await budget(running, "retrieve"), await budget(running, "retrieve", "retrieve shallow")]
    assert given == pytest.approx([0.6, 0.2])
    assert [(it.stage, it.budget_seconds) for it in running.reports] == [("retrieve", seconds) for seconds in given]
    # Where only the deadline counts nothing is asked of it.
    assert await budget(running, "decide") is None


def test_what_stands_before_an_answer_leaves_it_four_tenths_of_any_deadline_also_when_all_of_it_is_late():
    # The name is resolved beside them.
    before = ("rewrite", "retrieve", "retrieve shallow", "prompt")
    assert prod(1 - BUDGETS[name].part for name in before) >= 0.4


async def test_a_stage_is_stopped_at_its_end_and_told_with_how_long_that_was(monkeypatch):
    monkeypatch.setitem(BUDGETS, "rewrite", Share(0.01, 5.0))
    running = stages(1.0)
    with pytest.raises(BudgetSpentError, match=r"\b0\.01 s"):
        async with running.stage("rewrite"):
            await asyncio.Event().wait()
    assert [(it.stage, it.budget_seconds) for it in running.reports] == [("rewrite", 0.01)]


async def test_pieces_of_a_stage_have_one_budget_and_one_report():
    clock, left = ManualClock(), iter([2.0])
    running = Stages(clock, lambda: next(left), untraced)
    verifying = running.in_pieces("verify")
    for took, size in ((0.25, 1), (0.5, 2)):
        async with verifying.piece() as piece:
            async with verifying.limited():
                clock.advance(took)
            piece.input_size, piece.decision = size, f"{size} of them"
        # Not its own.
        clock.advance(40)
    async with verifying.piece() as piece:
        clock.advance(0.5)
        with pytest.raises(BudgetSpentError, match=r"\b1 s"):
            async with verifying.limited():
                await asyncio.Event().wait()
        piece.input_size, piece.decision = 3, "all of them"
    assert list(running.reports) == []
    verifying.end()
    (told,) = running.reports
    assert (told.stage, told.seconds, told.input_size, told.decision) == ("verify", 1.25, 3, "all of them")
    assert told.budget_seconds == 1.0
    assert [(it.stage, it.seconds, it.input_size) for it in running.watch.timings] == [("verify", 1.25, 3)]


async def test_a_time_out_inside_a_stage_is_no_end_of_its_budget():
    with pytest.raises(TimeoutError):
        async with stages(2.0).stage("rewrite"):
            raise TimeoutError


def test_where_nothing_may_take_a_stages_place_its_failure_is_the_requests():
    spent, failure = BudgetSpentError(1.0), Failure(Reason.PEER_UNAVAILABLE, service="embedder")
    running = stages(2.0)
    running.fell_back("retrieve", "keywords", spent)
    running.fell_back("verify", "words", failure)
    assert [(it.stage, it.instead) for it in running.fallbacks] == [("retrieve", "keywords"), ("verify", "words")]
    strict = stages(2.0, fallbacks=False)
    with pytest.raises(Failure) as late:
        strict.fell_back("retrieve", "keywords", spent)
    assert late.value.reason is Reason.DEADLINE_EXCEEDED
    with pytest.raises(Failure) as away:
        strict.fell_back("verify", "words", failure)
    assert away.value is failure
    assert strict.fallbacks == ()
