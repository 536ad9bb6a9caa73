"""The picture of a job that trains: each line as it stands on a terminal of a known width, without colour."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console
from trivium_client.cli.braille import Curves, chart, smoothed, spark
from trivium_client.cli.job_tables import line_of, said_of, say_next
from trivium_client.cli.printing import table
from trivium_client.cli.training_view import View, clock, size, waiting
from trivium_client.nouns import Job, JobEvent, TrainingSettings

from tests.harness.wording import missing

NOW = datetime(2027, 1, 1, 12, tzinfo=UTC)
JOB = Job(
    job="0192f0c1-7a3e-7c41-9d55-0b5f3c8e2a17",
    state="queued",
    model="desk",
    alias="prod",
    dataset="pairs",
    dataset_digest="sha256:1",
    base="base",
    base_digest="sha256:2",
    settings=TrainingSettings(),
    step=0,
    total_steps=10,
    trained_tokens=0,
    loss=0.0,
    version="",
    error_reason="",
    error="",
    attempts=0,
    create_time=NOW,
    start_time=None,
    end_time=None,
    estimated_end_time=None,
)


def event(kind: str, step: int, **changed: Any) -> JobEvent:
    told = JobEvent(
        sequence=1,
        kind=kind,
        state="running",
        step=step,
        total_steps=10,
        loss=2 - step / 10,
        learning_rate=1e-3 * step,
        gradient_norm=1 / step if step else 0.0,
        trained_tokens=1500 * step,
        message="",
        create_time=NOW + timedelta(seconds=3 * step),
        tokens_per_second=512.0,
        memory_bytes=3 << 29,
    )
    return replace(told, **changed)


def drawn(view: View, columns: int = 50, rows: int = 13, now: datetime = NOW) -> list[str]:
    console = Console(width=columns, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(view.frame(columns=columns, rows=rows, now=now))
    return [line.rstrip() for line in captured.get().splitlines()]


def trained(steps: int) -> View:
    view = View()
    for step in range(1, steps + 1):
        view.told(event("step", step))
    return view


def test_a_job_that_trains_is_drawn_with_its_curve_and_its_numbers() -> None:
    view = trained(5)
    view.told(event("evaluation", 5, evaluation={"exact_match": 0.25, "loss": 1.6}))
    assert drawn(view, now=NOW + timedelta(seconds=15)) == [
        "training, step 5 of 10, 0:15 left",
        "     1.9┤⠉⠑⠒⠢⠤⢄⣀",
        "        │    ⠈  ⠉⠑⡒⠢⠤⢄⣀⡀",
        "        │             ⢀⠈⠉⠒⠢◆",
        "     1.5┤                  ⡀",
        "    step 1                                      10",
        "loss 1.5, smoothed 1.624",
        "◆ evaluation at step 5: loss 1.6, exact_match 0.25",
        "learning rate  ▁▃▅▆█ 0.005",
        "gradient norm  █▄▂▁▁ 0.2",
        "7,500 tokens, 512 a second, 1.5 GiB in its process",
    ]


@pytest.mark.parametrize(("method", "where"), [("lora", "a process it shares"), ("full", "its process")])
def test_memory_that_was_measured_is_told_apart_from_what_is_set_aside(method: str, where: str) -> None:
    view, job = View(), replace(JOB, settings=TrainingSettings(method=method), memory_bytes=1 << 20)
    view.found(job)
    view.told(event("step", 1, memory_bytes=0))
    assert drawn(view)[-1] == "1,500 tokens, 512 a second, 1 MiB set aside"
    view.told(event("step", 2))
    view.told(event("message", 2, memory_bytes=0))
    assert drawn(view, columns=80)[-1] == f"3,000 tokens, 512 a second, 1.5 GiB in {where}"


def test_a_step_that_is_trained_again_after_a_restart_is_one_point() -> None:
    once, twice = trained(6), trained(6)
    for step in (4, 5, 6):
        twice.told(event("step", step))
    assert drawn(twice)[1:7] == drawn(once)[1:7]


def test_a_job_that_waits_says_its_place_why_and_until_when() -> None:
    view = View()
    view.told(event("state", 0, state="queued"))
    starts = NOW + timedelta(minutes=4)
    view.found(replace(JOB, queue_position=3, waiting_reason="two jobs of yours train.", estimated_start_time=starts))
    state, waits = drawn(view, columns=90)
    assert state == "queued, step 0 of 10"
    assert not missing(waits, "place 3", "two jobs of yours train", "4:00")
    view.told(event("step", 1))
    assert not any("two jobs of yours train" in line for line in drawn(view))
    view.found(replace(JOB, state="running", step=1, waiting_reason="its machine serves"))
    assert "its machine serves" in drawn(view)[1]
    view.told(event("step", 2))
    assert not any("its machine serves" in line for line in drawn(view))


def test_a_trainer_that_is_away_is_said_until_it_is_back() -> None:
    view = trained(2)
    view.lost("nothing answers")
    away = drawn(view)[-1]
    assert "trainer" in away
    view.told(event("step", 3))
    assert away not in drawn(view)


def test_a_frame_is_never_wider_nor_higher_than_the_terminal() -> None:
    view = trained(10)
    view.told(event("evaluation", 5, evaluation={"loss": 1.6, "a_metric_of_a_long_name": 0.123456}))
    view.lost("for a reason that is longer than any terminal of this width would take on one line of it")
    for columns, rows in ((20, 13), (40, 14), (80, 24), (200, 60)):
        lines = drawn(view, columns, rows)
        assert max(map(len, lines)) <= columns
        assert len(lines) < rows


def test_a_loss_that_is_no_number_leaves_the_curve_drawable() -> None:
    view = trained(3)
    view.told(event("step", 4, loss=math.nan))
    lines = drawn(view)
    assert lines[1].startswith("     1.9┤")
    assert any(line.startswith("loss nan, smoothed 1.7") for line in lines)


def test_the_time_left_is_of_the_present_pace_and_of_training_alone() -> None:
    view = trained(4)
    assert view.left(NOW + timedelta(seconds=12)) == timedelta(seconds=18)
    # It runs on between two events.
    assert view.left(NOW + timedelta(seconds=15)) == timedelta(seconds=15)
    view.told(event("state", 4, state="paused"))
    assert view.left(NOW) is None
    # A pause is not counted into the pace.
    for step in (5, 6):
        view.told(event("step", step, create_time=NOW + timedelta(hours=1, seconds=step)))
    assert view.left(NOW + timedelta(hours=1, seconds=6)) == timedelta(seconds=4)


def test_a_chart_puts_every_value_where_its_step_and_its_height_are() -> None:
    lines = [line.plain for line in chart(Curves(raw=[(1, 0.0), (5, 1.0)]), last_step=5, columns=19, rows=2)]
    assert lines == [
        "       1┤         ⠈",
        "       0┤⡀         ",
        "    step 1        5",
    ]
    flat = chart(Curves(raw=[(1, 2.0)]), last_step=5, columns=19, rows=2)
    assert flat[0].plain.startswith("       3┤")
    assert all(len(line.plain) == 19 for line in chart(Curves(raw=[]), last_step=0, columns=19, rows=3))


def test_smoothing_begins_at_the_first_value_and_follows_a_step_by_its_span() -> None:
    assert smoothed({1: 4.0, 2: 4.0}, 10) == [(1.0, 4.0), (2.0, 4.0)]
    jump = smoothed({step: float(step > 50) for step in range(1, 101)}, 10)
    assert jump[49][1] == 0
    assert 0.8 < jump[59][1] < 0.95
    assert smoothed({1: 3.0, 2: 5.0}, 1) == [(1.0, 3.0), (2.0, 5.0)]


def test_a_spark_has_a_bar_a_value_until_they_share() -> None:
    assert spark([0.0, 1.0, 0.5], 10) == "▁█▅"
    assert len(spark([float(value) for value in range(100)], 10)) == 10
    assert spark([2.0, 2.0], 10) == "▄▄"
    assert spark([math.inf], 10) == ""


def test_spans_and_lengths_are_said_as_people_say_them() -> None:
    assert [clock(timedelta(seconds=seconds)) for seconds in (5, 65, 3723)] == ["0:05", "1:05", "1:02:03"]
    assert [size(length) for length in (7 << 10, 5 << 20, 3 << 29)] == ["7 KiB", "5 MiB", "1.5 GiB"]


def test_a_table_shows_the_place_in_the_queue_and_the_progress() -> None:
    waits = line_of(replace(JOB, queue_position=2))
    assert (waits.queue, waits.step, waits.progress, waits.loss) == ("2", "0/10", "0 %", None)
    trains = line_of(replace(JOB, state="running", step=4, loss=0.5))
    assert (trains.queue, trains.step, trains.progress, trains.loss) == ("", "4/10", "40 %", 0.5)


def test_what_came_of_training_is_told_with_the_line_to_talk_to_it(capsys: pytest.CaptureFixture[str]) -> None:
    version = f"sha256:{'ab' * 32}"
    say_next("desk", "prod", version)
    say_next("desk", "canary", version)
    say_next("desk", "", version)
    told = capsys.readouterr()
    assert told.out == ""
    assert [line.rpartition(": ")[2] for line in told.err.splitlines()] == [
        "trivium chat -m desk",
        "trivium chat -m desk@canary",
        "trivium chat -m desk@sha256:abababababab",
        "trivium models alias desk sha256:abababababab",
    ]


def test_a_table_shows_why_a_job_waits_folded_below_it_on_a_terminal_and_on_its_line_elsewhere() -> None:
    why = "its version could not be registered yet (The registry is away); it is tried again at 12:00:05 UTC"
    lines = [line_of(JOB), line_of(replace(JOB, waiting_reason=why))]
    headings, quiet, waits = table(lines, ("job", "state"), 60, "why")
    assert headings.split() == ["job", "state"]
    assert quiet.splitlines() == [f"{JOB.job}  queued"]
    first, *folded = waits.splitlines()
    assert first == f"{JOB.job}  queued"
    assert [line[:4].strip() for line in folded] == ["", ""]
    assert max(map(len, folded)) <= 60
    assert " ".join(line.strip() for line in folded) == why
    assert table(lines, ("job", "state"), None, "why")[2] == f"{JOB.job}  queued  {why}"
    assert "The registry is away" in waiting(replace(JOB, state="registering", waiting_reason=why), NOW)


def test_a_job_that_is_shown_says_why_it_waits_and_how_its_last_evaluation_was() -> None:
    quiet = said_of(JOB)
    assert (quiet.sentences, "queue_position" in quiet.fields) == ([], False)
    told = said_of(
        replace(JOB, queue_position=2, evaluation={"exact_match": 0.5, "loss": 1.25}, best_step=40, warnings=("rank",))
    )
    assert told.sentences == [
        "It waits: place 2 in the queue.",
        "The last evaluation: loss 1.25, exact_match 0.5; the best so far was at step 40.",
        "warning: rank",
    ]
    assert waiting(JOB, NOW) == ""
    assert not {"loss", "memory_bytes"} & set(quiet.fields)
    assert said_of(replace(JOB, step=1, loss=0.0)).fields["loss"] == 0.0
    (memory,) = said_of(replace(JOB, memory_bytes=3 << 20)).sentences
    assert memory == "3 MiB of memory are set aside for it; watch tells what its process holds."
