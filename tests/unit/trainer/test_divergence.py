"""When a job counts as diverged, from its losses alone."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import pytest

from services.trainer.conduct import Refused
from services.trainer.divergence import LOSSES, Losses, Watch, losses_of
from services.trainer.job import Progress
from services.trainer.joint.history import History
from services.trainer.settings import Keep, Objective, Settings

SETTINGS = Settings(learning_rate=1.0)
# Guessing among them costs 8.
VOCABULARY = math.ceil(math.exp(8.0))
BOUND = 10.0


class Config:
    """What a model says of itself."""

    vocab_size = VOCABULARY
    hidden_size = 2000
    model_type = "llama"

    def get_text_config(self) -> "Config":
        return self


def watch(settings: Settings = SETTINGS, losses: Losses | None = None) -> Watch:
    return Watch(settings, Config(), losses)


def refusal(work: Callable[[], None]) -> Refused | None:
    """What the watch refuses with, if it does."""
    try:
        work()
    except Refused as refused:
        return refused
    return None


def frozen_at(own: Watch, losses: Sequence[float | None], total_steps: int = 1000, done: int = 0) -> Refused | None:
    """Have the job do steps with these losses, until one of them freezes it."""
    for step, loss in enumerate(losses, done):
        refused = refusal(partial(own.stepped, Progress(step, total_steps), loss))
        if refused is not None:
            assert f"at step {step + 1} " in str(refused)
            return refused
    return None


def test_eight_steps_far_worse_than_guessing_freeze_a_job_and_seven_do_not() -> None:
    bad = [BOUND + 1] * 7
    # Neither do those that it came back from.
    assert frozen_at(watch(), [2.0, *bad, 2.0, *bad, BOUND]) is None
    refused = frozen_at(watch(), [2.0, 2.0, *bad, BOUND, BOUND + 2])
    assert refused is not None
    assert refused.reason == "TRAINING_DIVERGED"
    assert str(refused).startswith(
        "at step 11 the loss is 12; since step 2 it was in 8 steps above 10, which is 1.25 times that of "
        f"a model that finds all {VOCABULARY} tokens equally likely. Lower the learning rate: "
    )


def test_the_remedy_is_the_rate_that_the_base_would_have_had_or_a_tenth() -> None:
    assert "it is 1, try 0.0005." in str(watch().diverged("at step 3 the loss is nan"))
    assert "it is 0.0001, try 1e-05." in str(watch(replace(SETTINGS, learning_rate=1e-4)).diverged("it is nan"))


def test_a_job_that_begins_worse_than_guessing_is_measured_by_its_beginning() -> None:
    assert frozen_at(watch(), [20.0] + [24.0] * 50) is None
    refused = frozen_at(watch(), [20.0] + [26.0] * 50)
    assert refused is not None
    assert "above 25, which is 1.25 times that of the first step" in str(refused)


@pytest.mark.parametrize(("total_steps", "needed"), [(2, 1), (3, 2), (4, 2), (7, 4), (15, 8), (100, 8)])
def test_a_short_job_is_frozen_by_half_of_its_steps(total_steps: int, needed: int) -> None:
    own = watch()
    assert frozen_at(own, [2.0] + [99.0] * (needed - 1), total_steps) is None
    assert frozen_at(own, [99.0], total_steps, done=needed) is not None


def test_the_last_sound_step_is_from_before_the_losses_rose() -> None:
    refused = frozen_at(watch(), [2.0, 1.0, 2.5, 7.0, 9.0, *[99.0] * 10])
    assert refused is not None
    assert refused.sound_step == 3
    # Where numbers are none too.
    own = watch()
    frozen_at(own, [2.0, 1.0, 9.0, 99.0])
    with pytest.raises(Refused) as failing:
        own.require_finite(5, math.nan, 1.0)
    assert failing.value.sound_step == 2


def test_steps_that_want_no_answer_say_nothing() -> None:
    judged = replace(SETTINGS, objective=Objective.KTO)
    own = watch(judged)
    assert frozen_at(own, [None, None, 2.0, *[None, 99.0] * 7, None]) is None
    assert own.losses.sound_step == 4
    refused = frozen_at(own, [99.0], done=18)
    assert refused is not None
    assert "at step 19 the loss of a wanted answer's token is 99;" in str(refused)


@pytest.mark.parametrize("killed_after", range(14))
def test_a_job_that_was_killed_is_frozen_at_the_same_step(killed_after: int) -> None:
    losses = [2.0, 2.0, *[99.0] * 3, 2.0, *[99.0] * 8]
    before = watch()
    assert frozen_at(before, losses[:killed_after]) is None
    state = json.loads(json.dumps({LOSSES: asdict(before.losses)}))
    again = watch(losses=losses_of(state, Progress(killed_after)))
    refused = frozen_at(again, losses[killed_after:], done=killed_after)
    assert refused is not None
    assert "at step 14 " in str(refused)
    assert refused.sound_step == 6


def test_a_checkpoint_of_an_earlier_release_begins_at_nothing() -> None:
    own = watch(losses=losses_of({}, Progress(30)))
    with pytest.raises(Refused) as refused:
        own.require_finite(31, math.inf, 1.0)
    assert refused.value.sound_step == 30
    assert frozen_at(own, [16.0] + [17.0] * 50, done=30) is None


def history(losses: Sequence[float], settings: Settings) -> History:
    """Evaluations after each tenth step."""
    found = History()
    for step, loss in enumerate(losses, 1):
        found.add(step * 10, loss, settings)
        found.evaluations.append({"step": step * 10, "loss": loss})
    return found


def ended(losses: Sequence[float], bad_steps: int = 0, **changes: Any) -> Refused | None:
    settings = replace(SETTINGS, **changes)
    own = watch(settings, Losses(first=2.0, sound_step=40, bad_steps=bad_steps))
    return refusal(lambda: own.ended(Progress(100, 100), history(losses, settings)))


def test_weights_that_answer_held_out_rows_far_worse_than_a_guess_become_no_version() -> None:
    assert ended([]) is None
    assert ended([2.0, 9.0], keep=Keep.LAST) is None
    refused = ended([2.0, 2.5, 11.0], keep=Keep.LAST)
    assert refused is not None
    assert "after step 30 the held-out loss is 11, above 10" in str(refused)
    # The checkpoint of step 20 was evaluated, and is good.
    assert refused.sound_step == 21
    none = ended([17.0, 16.0])
    assert none is not None
    assert none.sound_step == 0


def test_weights_that_were_good_when_they_were_kept_are_a_version_whatever_came_later() -> None:
    assert ended([2.0, 3.0, 99.0], bad_steps=7, keep=Keep.BEST) is None


def test_a_job_that_ends_without_having_come_back_from_losses_out_of_bounds_makes_no_version() -> None:
    assert ended([], bad_steps=2) is None
    assert ended([2.0], bad_steps=2, keep=Keep.LAST) is None
    for losses in ([], [2.0]):
        refused = ended(losses, bad_steps=3, keep=Keep.LAST)
        assert refused is not None
        assert "the loss has not come back by step 100, the last; since step 40 it was in 3 steps above 10" in str(
            refused
        )
        assert refused.sound_step == 40
