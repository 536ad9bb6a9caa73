"""What a sweep is made of: members that can be compared, rungs that cost nothing, a table that travels."""

import math
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.errors import Failure, Reason
from services.trainer.job import Job, Order, Progress, State
from services.trainer.settings import Keep, Metric, Objective, Settings
from services.trainer.sweeping.sweep import Asked, Member, check, paced

SETTINGS = Settings(validation_ratio=0.1)
ORDER = Order("m", "rows", "sha256:d", "tiny", "sha256:base", SETTINGS, "prod")
NOW = datetime(2027, 1, 1, tzinfo=UTC)


def asked(*settings: Settings, rungs: tuple[float, ...] = (), kept_ratio: float = 0.5, **order: str) -> Asked:
    orders = tuple(replace(ORDER, settings=one, **order) for one in settings)  # type: ignore[arg-type]  # texts all
    return Asked(orders, ((),) * len(orders), rungs, kept_ratio)


def refused(wanted: Asked) -> tuple[str, str]:
    with pytest.raises(Failure) as raised:
        check(wanted)
    assert raised.value.reason is Reason.FIELD_INVALID
    return str(raised.value.field), raised.value.variables["problem"]


def member(state: State = State.PAUSED, **fields: object) -> Member:
    """A member whose job has come to step 20 of 40."""
    job = Job("acme", "j1", "ada", ORDER, state, Progress(20, 40), NOW, NOW)
    return replace(Member(job, (("learning_rate", "0.1"),), (20, 30)), **fields)  # type: ignore[arg-type]  # fields of Member


def test_only_who_was_worse_at_a_rung_was_pruned_there() -> None:
    outdone = member().after_all_rungs
    assert [member(ended_at_rung=rung).pruned_at_rung for rung in (0, 1, 2, outdone)] == [0, 1, 2, 0]


def test_members_need_rows_that_are_held_out_to_be_compared_on() -> None:
    field, problem = refused(asked(Settings(), rungs=(0.5,)))
    assert field == "job.settings.validation_ratio"
    assert "name a validation_dataset" in problem
    check(asked(Settings(), validation_dataset="held-out"))
    check(asked(SETTINGS, rungs=(0.25, 0.5)))


def test_a_metric_of_answers_needs_answers() -> None:
    settings = replace(SETTINGS, metric=Metric.EXACT_MATCH)
    assert refused(asked(settings))[0] == "job.settings.generation_rows"
    check(asked(replace(settings, generation_rows=10)))


@pytest.mark.parametrize("objective", [Objective.SUPERVISED, Objective.CONTINUED, Objective.KTO])
def test_what_pairs_are_measured_by_needs_pairs(objective: Objective) -> None:
    settings = replace(SETTINGS, metric=Metric.PREFERENCE_ACCURACY, objective=objective)
    assert refused(asked(settings))[0] == "job.settings.metric"
    check(asked(replace(settings, objective=Objective.DPO)))


@pytest.mark.parametrize("rungs", [(0.5, 0.25), (0.5, 0.5), (0.0,), (1.0,), (math.nan,)])
def test_rungs_that_do_not_ascend_inside_the_plan_are_refused(rungs: tuple[float, ...]) -> None:
    assert refused(asked(SETTINGS, rungs=rungs))[0] == "rungs"


@pytest.mark.parametrize("ratio", [0.0, 1.0, -1.0])
def test_a_share_that_keeps_all_or_none_is_refused(ratio: float) -> None:
    assert refused(asked(SETTINGS, kept_ratio=ratio))[0] == "kept_ratio"


def test_members_that_are_measured_differently_are_refused_by_the_setting_that_differs() -> None:
    field, problem = refused(asked(SETTINGS, replace(SETTINGS, rank=4), replace(SETTINGS, validation_ratio=0.2)))
    assert (field, "compared by it" in problem) == ("settings.validation_ratio", True)
    assert refused(asked(SETTINGS, replace(SETTINGS, seed=1)))[0] == "settings.seed"
    assert refused(asked(SETTINGS, replace(SETTINGS, beta=0.5)))[0] == "settings.preference.beta"
    check(asked(SETTINGS, replace(SETTINGS, seed=1), validation_dataset="held-out"))
    check(asked(SETTINGS, replace(SETTINGS, rank=4, learning_rate=0.1, epochs=9)))


def test_no_member_is_no_sweep() -> None:
    assert refused(asked())[0] == "members"


@given(
    st.lists(st.floats(0.01, 0.99), min_size=1, max_size=4, unique=True).map(sorted),
    st.integers(2, 10_000),
    st.one_of(st.just(0), st.integers(1, 200)),
)
def test_a_member_waits_at_evaluations_of_its_own_plan_alone(rungs: list[float], total: int, every: int) -> None:
    if every >= total:
        with pytest.raises(Failure) as failed:
            paced(replace(SETTINGS, evaluation_steps=every), rungs, total)
        assert (failed.value.reason, failed.value.field) == (Reason.FIELD_INVALID, "rungs")
        return
    settings, steps = paced(replace(SETTINGS, evaluation_steps=every), rungs, total)
    assert settings == replace(SETTINGS, evaluation_steps=settings.evaluation_steps)
    assert settings.evaluation_steps == every or not every
    assert list(steps) == sorted(steps)
    assert all(0 < step < total and step % settings.evaluation_steps == 0 for step in steps)
    # At its share, or the next evaluation behind it, unless there is none before the end.
    assert all(
        step >= share * total - 1e-5 or step + settings.evaluation_steps >= total
        for share, step in zip(rungs, steps, strict=True)
    )


def test_without_rungs_a_members_settings_are_those_of_the_job_alone() -> None:
    assert paced(SETTINGS, (), 100) == (SETTINGS, ())


def test_shares_of_single_precision_meet_the_step_that_was_meant() -> None:
    assert paced(SETTINGS, (0.1, 0.3, 0.7), 100)[1] == (10, 30, 70)


def test_a_member_waits_once_it_has_come_as_far_as_it_may() -> None:
    assert member().waits
    assert not member(state=State.RUNNING).waits
    assert not member(released=1).waits, "paused by somebody, ten steps before its rung"
    assert not member(released=2).waits
    assert member(released=2, trained=True).waits


def test_a_result_is_compared_by_the_evaluation_of_the_weights_that_it_holds() -> None:
    values = {10: {"loss": 1.0}, 20: {"loss": 3.0}}
    best = member(evaluations=values, trained=True)
    best = replace(best, job=replace(best.job, progress=Progress(20, 20, best_step=10)))
    assert best.standing().final == 1.0
    last = replace(best, job=replace(best.job, order=replace(ORDER, settings=replace(SETTINGS, keep=Keep.LAST))))
    assert last.standing().final == 3.0


def test_an_evaluation_without_the_metric_counts_as_no_number() -> None:
    found = member(evaluations={20: {"exact_match": 1.0}}).standing()
    assert math.isnan(found.scores[1])
