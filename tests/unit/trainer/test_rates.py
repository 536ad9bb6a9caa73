"""The learning rate of every step."""

import pytest

from services.trainer.rates import rate
from services.trainer.settings import Schedule, Settings


@pytest.mark.parametrize(
    ("schedule", "last"),
    [
        (Schedule.LINEAR, 1 / 9),
        (Schedule.COSINE, 0.0302),
        (Schedule.CONSTANT, 1.0),
        (Schedule.STABLE_DECAY, 0.5),
    ],
)
def test_the_rate_warms_up_and_then_falls_as_scheduled(schedule: Schedule, last: float) -> None:
    settings = Settings(learning_rate=1.0, warmup_ratio=0.1, schedule=schedule)
    rates = [rate(step, 10, settings) for step in range(10)]
    assert rates[0] == rates[1] == 1.0
    assert rates[-1] == pytest.approx(last, abs=1e-3)
    assert rates == sorted(rates, reverse=True)


def test_warming_up_takes_its_share_of_the_steps_in_equal_parts() -> None:
    settings = Settings(learning_rate=1.0, warmup_ratio=0.4, schedule=Schedule.CONSTANT)
    assert [rate(step, 10, settings) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
