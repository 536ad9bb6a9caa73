"""A job whose base is still to come holds nobody up, and is fetched beside the others."""

from services.trainer.job import State
from services.trainer.scheduler import Fetch, Train, plan
from tests.unit.trainer.test_scheduler import job


def test_the_next_job_whose_base_is_here_trains_while_the_others_are_fetched() -> None:
    jobs = [job(name, State.QUEUED, number) for number, name in enumerate("abcd")]
    actions = plan(jobs, lambda queued: queued.job == "d")
    assert actions == [Fetch(jobs[0]), Fetch(jobs[1]), Train(jobs[3])]


def test_a_running_job_whose_base_was_cleaned_up_is_fetched_again_before_it_goes_on() -> None:
    lost = job("a", State.RUNNING, 1)
    assert plan([lost], lambda _: False) == [Fetch(lost)]
    assert plan([lost], lambda _: True) == [Train(lost)]
