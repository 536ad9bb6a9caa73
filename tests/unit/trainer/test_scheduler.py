from datetime import UTC, datetime

from services.trainer.job import MOVES, Job, Order, Progress, Settings, State
from services.trainer.scheduler import Register, Settle, Train, plan


def job(name: str, state: State, queued: int) -> Job:
    moment = datetime.fromtimestamp(queued, UTC)
    order = Order("m", "d", "sha256:d", "b", "sha256:b", Settings(), "")
    return Job("t", name, "p", order, state, Progress(), moment, moment)


def test_the_job_that_waited_longest_trains() -> None:
    jobs = [job("b", State.QUEUED, 2), job("a", State.QUEUED, 1)]
    assert plan(jobs) == [Train(jobs[1])]


def test_a_job_that_lost_its_process_goes_before_those_that_wait() -> None:
    jobs = [job("a", State.QUEUED, 1), job("b", State.RUNNING, 2)]
    assert plan(jobs) == [Train(jobs[1])]


def test_a_paused_job_waits_for_a_person() -> None:
    assert plan([job("a", State.PAUSED, 1)]) == []


def test_what_was_asked_for_while_no_process_ran_is_settled_first() -> None:
    cancelling, pausing = job("a", State.CANCELLING, 1), job("b", State.PAUSING, 2)
    assert plan([cancelling, pausing]) == [
        Settle(cancelling, State.CANCELLED),
        Settle(pausing, State.PAUSED),
    ]


def test_registrations_do_not_wait_for_training() -> None:
    trained, queued = job("a", State.REGISTERING, 1), job("b", State.QUEUED, 2)
    assert plan([trained, queued]) == [Register(trained), Train(queued)]


def test_a_finished_job_never_moves() -> None:
    assert all(bool(MOVES[state]) is not state.finished for state in State)
