import dataclasses
from datetime import UTC, datetime

from services.trainer.job import MOVES, Job, Order, Progress, State
from services.trainer.scheduler import Ended, Register, Settle, Train, begin, conclude, plan, refuse, settle
from services.trainer.settings import Settings
from services.trainer.work import Exit


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
    assert plan([cancelling, pausing]) == [Settle(cancelling), Settle(pausing)]
    moves = [settle(cancelling), settle(pausing)]
    assert [move and move.state for move in moves] == [State.CANCELLED, State.PAUSED]


def test_registrations_do_not_wait_for_training() -> None:
    trained, queued = job("a", State.REGISTERING, 1), job("b", State.QUEUED, 2)
    assert plan([trained, queued]) == [Register(trained), Train(queued)]


def test_a_finished_job_never_moves() -> None:
    assert all(bool(MOVES[state]) is not state.finished for state in State)


def test_a_job_cancelled_since_it_was_planned_gets_no_process() -> None:
    assert begin(job("a", State.CANCELLED, 1)) is None
    assert begin(job("a", State.PAUSED, 1)) is None


def test_a_cancellation_counts_whatever_the_process_did_last() -> None:
    cancelling = job("a", State.CANCELLING, 1)
    for ended in (Ended(Exit.DONE), Ended(-9), Ended(Exit.REFUSED, "TRAINING_DIVERGED", "it diverged")):
        move = conclude(cancelling, ended, 4)
        assert move is not None
        assert move.state is State.CANCELLED
    assert refuse(job("a", State.CANCELLED, 1), "X", "x") is None


def test_a_job_asked_to_pause_that_finished_first_is_registered() -> None:
    move = conclude(job("a", State.PAUSING, 1), Ended(Exit.DONE), 4)
    assert move is not None
    assert move.state is State.REGISTERING


def test_a_stop_of_the_trainer_leaves_the_job_running() -> None:
    assert conclude(job("a", State.RUNNING, 1), Ended(Exit.STOPPED), 4) is None


def test_a_process_that_is_lost_too_often_fails_the_job_and_says_how_it_ended() -> None:
    running = job("a", State.RUNNING, 1)
    once = conclude(running, Ended(-9), 4)
    assert once is not None
    assert (once.state, once.columns) == (State.RUNNING, {"crashes": 1})
    last = conclude(dataclasses.replace(running, crashes=3), Ended(-9), 4)
    assert last is not None
    assert (last.state, last.columns["error_reason"]) == (State.FAILED, "PROCESS_LOST")
    assert "signal 9" in last.message


def test_a_full_disk_pauses_the_job_and_keeps_what_it_has() -> None:
    full = Ended(Exit.REFUSED, "DISK_FULL", "No space is left.")
    for state in (State.RUNNING, State.PAUSING):
        move = conclude(job("a", state, 1), full, 1)
        assert move is not None
        assert move.state in MOVES[state]
        assert (move.state, move.columns) == (State.PAUSED, {})
        assert move.message == "No space is left. The job was paused; resume it when there is space."
    assert refuse(job("a", State.PAUSED, 1), "DISK_FULL", "No space is left.") is None
    assert refuse(job("a", State.QUEUED, 1), "DISK_FULL", "No space is left.") is not None
