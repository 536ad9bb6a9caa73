"""What a log gets of a job that is followed: lines by the time of its events, each thing once, and how to go on."""

import io
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console
from rich.live import Live
from trivium_client.cli.following import _InTurn, _Lines, _Picture, goes_on

from tests.harness.wording import missing
from tests.unit.client.test_training_view import event


def logged(*events: Any) -> list[str]:
    out = io.StringIO()
    lines = _Lines(Console(file=out, width=200, color_system=None))
    for one in events:
        lines.told(one)
    return out.getvalue().splitlines()


def test_a_job_that_has_ended_is_told_with_its_steps_and_its_loss() -> None:
    steps = [event("step", step, create_time=datetime(2025, 1, 1, 0, 0, step, tzinfo=UTC)) for step in range(1, 11)]
    ended = event("state", 10, state="registering", message="trained; registering the version")
    assert logged(*steps, ended) == ["step 10 of 10, loss 1", "trained; registering the version"]


def test_what_was_long_ago_is_told_in_few_lines_and_what_comes_at_its_own_pace() -> None:
    def steps(begun: datetime) -> list[Any]:
        return [
            event("step", step, total_steps=1000, loss=0.5, create_time=begun + timedelta(minutes=step))
            for step in range(1, 1001)
        ]

    assert len(logged(*steps(datetime(2025, 1, 1, tzinfo=UTC)))) == 20
    coming = logged(*steps(datetime.now(UTC) + timedelta(hours=1)))
    assert coming[:2] == ["step 2 of 1000, loss 0.5, 16:38:00 left", "step 3 of 1000, loss 0.5, 16:37:00 left"]
    assert len(coming) == 999


def test_an_event_soon_after_another_is_drawn_though_nothing_follows_it() -> None:
    out, turn = io.StringIO(), threading.Lock()
    with Live(console=Console(file=out, width=80, height=24, force_terminal=True), auto_refresh=False) as live:
        picture = _Picture(live, turn)
        shown = _InTurn(picture, turn)
        shown.told(event("step", 1))
        shown.told(event("step", 2))
        patience = time.monotonic() + 10
        while "step 2 of 10" not in out.getvalue():
            assert time.monotonic() < patience, "the frame of the second event was never drawn"
            time.sleep(0.01)
        picture.close()


def test_what_was_asked_for_and_what_came_of_it_are_one_line() -> None:
    said = "paused on request"
    asked, came = event("state", 3, state="pausing", message=said), event("state", 3, state="paused", message=said)
    again = event("state", 3, state="queued", message="queued again")
    assert logged(event("step", 3), asked, came, again, asked) == ["step 3 of 10, loss 1.7", said, "queued again", said]


def test_whoever_interrupts_is_told_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), goes_on("job", "trivium train watch 8e2a17"):
        raise KeyboardInterrupt
    told = capsys.readouterr()
    assert (told.out, missing(told.err, "trivium train watch 8e2a17")) == ("", [])
