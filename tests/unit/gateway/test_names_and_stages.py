import pytest

from gateway.generation import StageTiming
from gateway.names import canonical, served_name
from gateway.stages import Stopwatch


def test_no_name_means_the_base():
    assert canonical("") == canonical("  ") == "base"


@pytest.mark.parametrize(
    "name", ["base", "auto", "base:tiny", "support", "support@canary", "support@3", "support@sha256:ab"]
)
def test_every_other_name_stays_what_it_is(name):
    assert canonical(name) == name


def test_the_alias_prod_goes_without_saying():
    assert served_name("support", "prod") == "support"
    assert served_name("support", "canary") == "support@canary"


def test_a_stage_is_timed_also_when_it_fails():
    ticks = iter([1.0, 1.5, 2.0, 4.0])
    watch = Stopwatch(lambda: next(ticks))
    with watch.stage("resolve"):
        pass
    with pytest.raises(ValueError, match="x"), watch.stage("prompt"):
        int("x")
    assert watch.timings == (StageTiming("resolve", 0.5), StageTiming("prompt", 2.0))


def test_a_stage_says_how_much_went_into_it():
    watch = Stopwatch(lambda: 0.0)
    with watch.stage("prompt") as stage:
        stage.input_size = 9
    assert watch.timings == (StageTiming("prompt", 0.0, 9),)


def test_a_stage_that_a_peer_had_a_part_in_is_one_stage():
    watch = Stopwatch(lambda: 0.0)
    watch.add(StageTiming("prompt", 1.0, 40), StageTiming("queue", 0.5))
    watch.add(StageTiming("prompt", 0.25, 30))
    assert watch.timings == (StageTiming("prompt", 1.25, 40), StageTiming("queue", 0.5))
