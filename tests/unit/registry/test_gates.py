"""A gate never guesses: what is not measured does not pass, and only what was measured alike is compared."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from services.registry.gates import Contest, Direction, ForgettingBound, Measured, Policy, shortfall
from tests.harness.wording import missing

HIGHER, LOWER = Direction.HIGHER, Direction.LOWER


def measured(value: float, metric: str = "m", dataset: str = "d") -> Measured:
    return Measured(metric, value, dataset)


@pytest.mark.parametrize("direction", [HIGHER, LOWER])
@given(value=some.floats(-1e6, 1e6), required=some.floats(-1e6, 1e6))
def test_a_threshold_is_on_the_better_side(direction: Direction, value: float, required: float):
    policy = Policy("m", direction, required_value=required)
    passes = shortfall(policy, Contest([measured(value)], None)) == ""
    better = value >= required if direction is HIGHER else value <= required
    assert passes or not better
    # A hair below passes too: sums of decimal fractions are not exact.
    assert better or not passes or abs(value - required) <= 1e-9 * max(1, abs(value), abs(required)) * 2


@given(some.integers(-50, 50), some.integers(-50, 50), some.integers(-5, 5))
def test_an_improvement_of_tenths_is_counted_in_tenths(candidate: int, holder: int, least: int):
    policy = Policy("m", HIGHER, least_improvement=least / 10)
    contest = Contest([measured(candidate / 10)], [measured(holder / 10)])
    assert (shortfall(policy, contest) == "") == (candidate - holder >= least)


def test_the_newest_measurement_on_the_dataset_counts():
    policy = Policy("m", HIGHER, dataset_digest="d", required_value=1.0)
    assert shortfall(policy, Contest([measured(1.0), measured(0.0)], None)) == ""
    assert shortfall(policy, Contest([measured(9.0, dataset="e"), measured(0.0), measured(1.0)], None))


def test_two_versions_are_compared_on_the_same_dataset_only():
    policy = Policy("m", HIGHER, least_improvement=0.0)
    contest = Contest([measured(1.0, dataset="new")], [measured(0.5, dataset="old")])
    assert not missing(shortfall(policy, contest), "serves", "no evaluation of m on new")
    nameless = Contest([measured(1.0, dataset="")], [measured(0.5, dataset="old")])
    assert not missing(shortfall(policy, nameless), "serves", "no evaluation of m")


def test_what_may_be_forgotten_is_bounded_in_the_metrics_own_direction():
    bound = ForgettingBound("loss", "", LOWER, most_loss=0.5)
    policy = Policy("m", HIGHER, forgetting=bound)
    holder = [measured(2.0, "loss")]
    for loss, passes in ((2.5, True), (2.6, False), (1.0, True)):
        contest = Contest([measured(1.0), measured(loss, "loss")], holder)
        assert (shortfall(policy, contest) == "") == passes, loss
    assert not missing(shortfall(policy, Contest([measured(1.0)], holder)), "no evaluation of loss")
    assert shortfall(policy, Contest([measured(1.0)], None)) == ""


def test_a_rollback_passes_unless_the_gate_checks_it():
    back = Contest([], [measured(1.0)], rollback=True)
    assert shortfall(Policy("m", HIGHER), back) == ""
    assert shortfall(Policy("m", HIGHER, checks_rollbacks=True), back)


def test_a_policy_is_read_back_as_it_was():
    for policy in (
        Policy("m", LOWER),
        Policy("m", HIGHER, "d", "prod", 0.0, -1.5, ForgettingBound("n", "e", LOWER, 0.25), checks_rollbacks=True),
    ):
        assert Policy.restore(policy.snapshot()) == policy
