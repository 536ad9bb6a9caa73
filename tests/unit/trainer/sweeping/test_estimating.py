"""A sweep costs what its members do, less what those are spared that end early."""

from dataclasses import replace

import pytest

from services.chassis.errors import Failure, Reason
from services.trainer.estimates import Estimate
from services.trainer.settings import Settings
from services.trainer.sweeping.estimating import estimate
from services.trainer.sweeping.halving import kept_members
from services.trainer.sweeping.sweep import Asked
from tests.unit.trainer.sweeping.test_sweep import ORDER

SETTINGS = Settings(validation_ratio=0.2)
MEMBER = Estimate(
    order=replace(ORDER, settings=SETTINGS, job_bytes=30, base_bytes=100),
    tokens=4000,
    steps=40,
    seconds=20.0,
    tokens_per_second=200.0,
    trainable_parameters=10,
    version_bytes=40,
    memory_parts={"base": 100, "optimizer": 30},
    fits=True,
    warnings=["rank 64 is high"],
)


def asked(count: int, rungs: tuple[float, ...] = (), kept_ratio: float = 0.5) -> Asked:
    return Asked((MEMBER.order,) * count, ((),) * count, rungs, kept_ratio)


def test_without_rungs_it_is_the_sum_of_its_members_and_the_base_once() -> None:
    other = replace(MEMBER, tokens=1000, steps=10, seconds=5.0, version_bytes=80, warnings=["rank 64 is high", "few"])
    other = replace(other, order=replace(other.order, job_bytes=50, base_bytes=90))
    found = estimate(asked(3), [MEMBER, MEMBER, other])
    assert (found.members, found.steps, found.tokens, found.seconds) == (3, 90, 9000, 45.0)
    assert (found.memory_bytes, found.largest_member_bytes, found.version_bytes) == (210, 140, 80)
    assert (found.measured, found.fits, found.warnings) == (True, True, ["rank 64 is high", "few"])


@pytest.mark.parametrize(("count", "ratio"), [(8, 0.5), (7, 0.3), (1, 0.5)])
def test_what_halving_ends_early_is_not_counted_to_the_end(count: int, ratio: float) -> None:
    found = estimate(asked(count, (0.25, 0.5), ratio), [MEMBER] * count)
    second = kept_members(count, ratio)
    steps = 10 * count + 10 * second + 20 * kept_members(second, ratio)
    assert (found.steps, found.tokens) == (steps, 100 * steps)
    assert found.seconds == pytest.approx(steps / 2)


def test_members_of_which_one_was_never_measured_have_a_rough_time_and_one_that_has_none_leaves_all_without() -> None:
    rough = estimate(asked(2), [MEMBER, replace(MEMBER, tokens_per_second=0.0)])
    assert (rough.measured, rough.seconds) == (False, 40.0)
    assert estimate(asked(2), [MEMBER, replace(MEMBER, tokens_per_second=0.0, seconds=0.0)]).seconds == 0.0


def test_of_a_member_that_fits_nowhere_the_last_warning_tells() -> None:
    unfit = replace(MEMBER, fits=False, warnings=["rank 64 is high", "it needs 9 GiB"])
    found = estimate(asked(3), [unfit, MEMBER, replace(MEMBER, warnings=["few"])])
    assert (found.fits, found.warnings) == (False, ["rank 64 is high", "few", "it needs 9 GiB"])


def test_rungs_that_no_plan_has_room_for_are_refused_as_when_it_is_ordered() -> None:
    with pytest.raises(Failure) as refused:
        estimate(asked(2, (0.5,)), [replace(MEMBER, steps=1)] * 2)
    assert (refused.value.reason, refused.value.field) == (Reason.FIELD_INVALID, "rungs")
