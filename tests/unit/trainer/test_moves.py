import dataclasses
from collections.abc import Iterable
from datetime import UTC, datetime

import pytest

from services.trainer.job import MOVES, Job, Order, Progress, State
from services.trainer.moves import diverged, lost, refuse, settle, stopped, trained
from services.trainer.settings import Method, Settings
from services.trainer.work import Line, Said


def job(state: State) -> Job:
    moment = datetime.fromtimestamp(1, UTC)
    order = Order("m", "d", "sha256:d", "b", "sha256:b", Settings(), "")
    return Job("t", "a", "p", order, state, Progress(), moment, moment)


def test_what_was_asked_for_while_no_process_held_the_job_is_settled() -> None:
    moves = [settle(job(State.CANCELLING)), settle(job(State.PAUSING)), settle(job(State.RUNNING))]
    assert [move and move.state for move in moves] == [State.CANCELLED, State.PAUSED, None]


def test_a_finished_job_never_moves() -> None:
    assert all(bool(MOVES[state]) is not state.finished for state in State)


def test_a_cancellation_counts_whatever_the_process_did_last() -> None:
    cancelling = job(State.CANCELLING)
    moves = [
        trained(cancelling),
        stopped(cancelling, ""),
        stopped(cancelling, "another waits"),
        lost(cancelling, "signal 9", 4),
        refuse(cancelling, "TRAINING_DIVERGED", "it diverged"),
    ]
    assert [move and move.state for move in moves] == [State.CANCELLED] * 5
    assert refuse(job(State.CANCELLED), "X", "x") is None


def test_a_job_asked_to_pause_that_finished_first_is_registered() -> None:
    move = trained(job(State.PAUSING))
    assert move is not None
    assert move.state is State.REGISTERING


def test_a_job_that_gave_way_waits_again_and_says_for_whom() -> None:
    move = stopped(job(State.RUNNING), "a job of a higher class waits")
    assert move is not None
    assert move.state is State.QUEUED
    assert "a job of a higher class waits" in move.message


def test_a_job_that_gives_way_and_is_paused_meanwhile_is_paused() -> None:
    move = stopped(job(State.PAUSING), "a job of a higher class waits")
    assert move is not None
    assert move.state is State.PAUSED


def test_a_stop_of_the_trainer_leaves_the_job_running() -> None:
    assert stopped(job(State.RUNNING), "") is None


def test_a_process_that_is_lost_too_often_fails_the_job_and_says_how_it_ended() -> None:
    running = job(State.RUNNING)
    once = lost(running, "signal 9", 4)
    assert once is not None
    assert (once.state, once.columns) == (State.RUNNING, {"crashes": 1})
    last = lost(dataclasses.replace(running, crashes=3), "signal 9", 4)
    assert last is not None
    assert (last.state, last.columns["error_reason"]) == (State.FAILED, "PROCESS_LOST")
    assert "signal 9" in last.message


def test_a_job_that_is_paused_as_its_process_is_lost_is_paused() -> None:
    move = lost(job(State.PAUSING), "signal 9", 1)
    assert move is not None
    assert move.state is State.PAUSED


@pytest.mark.parametrize(
    ("reason", "when"), [("DISK_FULL", "when there is space"), ("CHECKPOINT_TOO_NEW", "once the trainer is updated")]
)
def test_what_is_no_fault_of_the_job_pauses_it_and_it_keeps_what_it_has(reason: str, when: str) -> None:
    for state in (State.RUNNING, State.PAUSING):
        move = refuse(job(state), reason, "It cannot go on.")
        assert move is not None
        assert move.state in MOVES[state]
        assert (move.state, move.columns) == (State.PAUSED, {})
        assert move.message == f"It cannot go on. The job was paused; resume it {when}."
    assert refuse(job(State.PAUSED), reason, "It cannot go on.") is None
    assert refuse(job(State.QUEUED), reason, "It cannot go on.") is not None


def said_of(kept_steps: Iterable[int], method: Method = Method.LORA, sound_step: int = 44) -> str:
    """What is said of a job that diverged at step 45, with these checkpoints; the last step that was sound is given."""
    training = job(State.RUNNING)
    training = dataclasses.replace(
        training,
        order=dataclasses.replace(training.order, settings=Settings(method=method)),
        progress=Progress(44, 100),
    )
    message = "at step 45 the loss is nan. Lower the learning rate."
    line = Line(Said.REFUSED, message=message, reason="TRAINING_DIVERGED", sound_step=sound_step)
    move = diverged(training, line, kept_steps, 86400.0)
    assert move is not None
    assert (move.state, move.columns["error_reason"]) == (State.FAILED, "TRAINING_DIVERGED")
    assert move.message == move.columns["error_message"]
    return move.message


def test_a_job_that_diverged_names_the_step_its_last_good_checkpoint_and_how_to_go_on_from_it() -> None:
    said = said_of([40, 20])
    assert said.startswith("at step 45 the loss is nan. Lower the learning rate. The checkpoint of step 40 is good")
    assert "kept for 24 h" in said
    assert "trivium train publish a --step 40" in said
    assert "--from MODEL@VERSION" in said
    assert "--base base:MODEL@VERSION" in said_of([40, 20], Method.FULL)


def test_weights_of_which_no_sound_step_has_shown_that_they_are_good_are_not_offered() -> None:
    assert "publish a --step 43" in said_of([44, 43])
    assert "publish a --step 20" in said_of([40, 30, 20], sound_step=30)
    assert "no good checkpoint" in said_of([40, 30], sound_step=30)
    for kept_steps in ([44], [], [0]):
        assert "no good checkpoint" in said_of(kept_steps)


def test_what_a_move_says_is_taken_by_every_database() -> None:
    unfit = "quotes \x00 and \ud800"
    for move in (
        refuse(job(State.RUNNING), "SETTINGS_UNFIT", unfit),
        refuse(job(State.RUNNING), "DISK_FULL", unfit),
        lost(job(State.RUNNING), unfit, 4),
        lost(job(State.RUNNING), unfit, 1),
    ):
        assert move is not None
        for text in (move.message, *move.columns.values()):
            assert "\x00" not in str(text)
            str(text).encode()
