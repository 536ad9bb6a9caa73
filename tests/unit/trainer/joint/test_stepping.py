"""A joint step: what is wrong with one member ends that member, and its neighbours have the bits that they have alone."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from services.trainer.data.examples import Example
from services.trainer.joint.dataset import rows_of
from services.trainer.joint.member import Member
from services.trainer.joint.stepping import step
from services.trainer.joint.units import UnitKind
from services.trainer.settings import Objective, Settings
from tests.unit.trainer.joint.company import PAIRS, PLAIN, Company, company, same

SETTINGS = Settings(rank=4, alpha=8, batch_rows=4, epochs=2, learning_rate=1e-2, dropout=0.2, seed=3)


@pytest.fixture
def own(base: Path) -> Company:
    return company(base)


def alone(own: Company, settings: Settings) -> Member:
    member = own.begun(settings, PLAIN)
    own.run(member)
    return member


def test_a_member_whose_numbers_are_none_is_refused_and_nobody_else_notices(own: Company) -> None:
    expected = alone(own, SETTINGS)
    sound, sick = own.begun(SETTINGS, PLAIN), own.begun(dataclasses.replace(SETTINGS, seed=4), PLAIN)
    own.step(sound, sick)
    sick.slot.weights[0] = float("nan")
    own.run(sick, sound)
    assert own.refused[sick].startswith("TRAINING_DIVERGED: at step 2 the loss is nan")
    assert same(sound.result(), expected.result())


def test_a_gradient_that_is_infinite_refuses_its_member_alone(own: Company) -> None:
    expected = alone(own, SETTINGS)
    sound, sick = own.begun(SETTINGS, PLAIN), own.begun(dataclasses.replace(SETTINGS, seed=4), PLAIN)
    sick.slot.gradients()[0] = float("inf")
    before = sick.slot.weights.clone()
    own.run(sound, sick)
    assert "at step 1 the loss is" in own.refused[sick]
    assert "the gradient norm inf" in own.refused[sick]
    assert torch.equal(sick.slot.weights, before)
    assert same(sound.result(), expected.result())


def test_rows_that_do_not_go_through_the_base_refuse_their_member_alone(own: Company) -> None:
    expected = alone(own, SETTINGS)
    unknown = rows_of([Example((1, 2, 99_999), (False, True, True))], 100)
    sound, sick = own.begun(SETTINGS, PLAIN), own.begun(dataclasses.replace(SETTINGS, seed=4), unknown)
    own.run(sick, sound)
    assert own.refused[sick].startswith("SETTINGS_UNFIT: its rows do not go through the base")
    # What the failed pass had drawn for dropout was put back.
    assert same(sound.result(), expected.result())


def test_a_job_that_recomputes_ends_with_the_same_bits_and_takes_nobody_elses_time(own: Company) -> None:
    expected = alone(own, SETTINGS)
    plain, thrifty = (
        own.begun(SETTINGS, PLAIN),
        own.begun(dataclasses.replace(SETTINGS, gradient_checkpointing=True), PLAIN),
    )
    ticks = itertools.count()
    went = step(own.bank, [thrifty, plain], clock=lambda: float(next(ticks)))
    # A pass for each.
    assert [each.seconds for each in went] == [1.0, 1.0]
    own.run(plain, thrifty)
    assert same(plain.result(), expected.result())
    assert same(thrifty.result(), expected.result())


def test_layers_are_computed_again_for_whom_it_was_asked(own: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    scored, asked = own.bank.score, []

    def score(segments: Any, *, recomputes: bool = False) -> Any:
        asked.append((len(segments), recomputes))
        return scored(segments, recomputes=recomputes)

    monkeypatch.setattr(own.bank, "score", score)
    thrifty = dataclasses.replace(SETTINGS, gradient_checkpointing=True)
    members = [own.begun(settings, PLAIN) for settings in (SETTINGS, thrifty, thrifty)]
    own.step(*members)
    assert asked == [(1, False), (2, True)]


def test_time_is_charged_by_tokens_within_what_was_run_together(own: Company) -> None:
    short, long = own.begun(dataclasses.replace(SETTINGS, batch_rows=1), PLAIN), own.begun(SETTINGS, PLAIN)
    referring = own.begun(dataclasses.replace(SETTINGS, objective=Objective.DPO), PAIRS)
    assert referring.unit is not None
    assert referring.unit.kind is UnitKind.REFERENCE
    ticks = itertools.count()
    first, second, third = step(own.bank, [short, long, referring], clock=lambda: float(next(ticks)))
    # One tick for the pass that only scores, one for the one that trains.
    assert third.seconds == 1.0
    assert first.seconds + second.seconds == pytest.approx(1.0)
    assert first.seconds / second.seconds == pytest.approx(first.tokens / second.tokens)


def test_answers_that_the_base_cannot_give_refuse_their_member_alone(
    own: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = alone(own, SETTINGS)

    def past_the_positions(*_: object) -> None:
        raise IndexError("index out of range in self")

    monkeypatch.setattr("services.trainer.joint.stepping.generate", past_the_positions)
    asking = dataclasses.replace(SETTINGS, seed=4, generation_rows=2, generation_tokens=5)
    sound, sick = own.begun(SETTINGS, PLAIN), own.begun(asking, PLAIN, PLAIN)
    own.run(sick, sound)
    assert own.refused[sick].startswith("SETTINGS_UNFIT: its prompts with their answers")
    assert own.refused[sick].endswith("index out of range in self. Lower generation_tokens.")
    assert same(sound.result(), expected.result())
