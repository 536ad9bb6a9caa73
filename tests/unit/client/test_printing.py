"""Tables lose nothing that somebody could copy: not on a narrow terminal, not in a pipe."""

import os
import pty
import subprocess
import sys
from dataclasses import dataclass, field

import pytest
from trivium_client.cli.printing import bars, counted, fitted, table, told
from trivium_client.nouns import PreferenceSettings

JOB = "0192f0c1-7a3e-7c41-9d55-0b5f3c8e2a17"
VERSION = "sha256:" + "c5ff4e087b237f97" * 4
TITLE = "On leave, and on all that a ferry house has ever had to say about it since it was founded"


@dataclass(frozen=True, slots=True)
class Thing:
    """A record with ids, free text and numbers."""

    job: str = JOB
    state: str = "succeeded"
    model: str = "a-model-with-a-long-name"
    title: str = TITLE
    version: str = VERSION
    digest: str = VERSION
    steps: int = 100


COLUMNS = ("job", "state", "model", "steps", "version")


def test_without_a_terminal_everything_is_whole_on_one_line() -> None:
    headings, row = table([Thing()], ("job", "title", "version", "digest"), None)
    assert row.split("  ") == [JOB, TITLE, VERSION, VERSION]
    assert headings.split() == ["job", "title", "version", "digest"]


@pytest.mark.parametrize("width", [40, 60, 80, 120, 300])
def test_ids_and_names_stay_whole_however_narrow_the_terminal_is(width: int) -> None:
    headings, row = table([Thing()], COLUMNS, width)
    cells = [cell for line in row.splitlines() for cell in line.split()]
    assert cells[:4] == [JOB, "succeeded", "a-model-with-a-long-name", "100"]
    assert cells[4] == (VERSION if width == 300 else VERSION[:19])
    assert headings.split() == list(COLUMNS)
    assert max(map(len, row.splitlines())) <= width
    # Each cell begins below its heading.
    for heading, line in zip(headings.splitlines(), row.splitlines(), strict=True):
        assert [heading.index(name) for name in heading.split()] == [line.index(cell) for cell in line.split()]


def test_only_free_text_is_cut_and_says_so() -> None:
    (row,) = table([Thing()], ("model", "title", "steps"), 80)[1:]
    assert len(row) <= 80
    assert row.split("  ") == [Thing().model, TITLE[:46] + "…", "100"]


def test_a_digest_that_no_command_takes_short_is_not_shortened() -> None:
    (row,) = table([Thing()], ("job", "digest"), 80)[1:]
    assert row.split() == [JOB, VERSION]


def test_brackets_line_feeds_and_escape_sequences_are_text() -> None:
    (row,) = table([Thing(title="[bold]a\nb\x1b[2Jc")], ("title",), None)[1:]
    assert row == "[bold]a b [2Jc"


def test_a_line_of_which_a_record_says_nothing_is_left_out() -> None:
    assert "\n" not in table([Thing(version="")], COLUMNS, 80)[1]
    assert table([Thing()], COLUMNS, 80)[1].count("\n") == 1


def test_a_terminal_is_told_from_a_pipe() -> None:
    program = (
        "from trivium_client.cli.printing import show; from tests.unit.client.test_printing import COLUMNS, Thing;"
        "show([Thing()], COLUMNS, json_wanted=False, empty='')"
    )
    master, terminal = pty.openpty()
    try:
        environment = {**os.environ, "COLUMNS": "80"}
        subprocess.run([sys.executable, "-c", program], stdout=terminal, env=environment, check=True, timeout=60)
        os.close(terminal)
        seen = os.read(master, 4096).decode().splitlines()
    finally:
        os.close(master)
    piped = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert len(seen) == 4
    assert [len(line.split()) for line in piped.stdout.splitlines()] == [5, 5]


@dataclass(frozen=True, slots=True)
class Whole:
    """A record that holds others."""

    name: str = "desk"
    tags: tuple[str, ...] = ("best", "old")
    none: tuple[str, ...] = ()
    files: tuple[Thing, ...] = (Thing(), Thing(title=""))
    config: dict[str, object] = field(default_factory=lambda: {"rank": 8, "nothing": None})
    # A record that says nothing.
    preference: PreferenceSettings = field(default_factory=PreferenceSettings)


def test_a_record_inside_a_record_stands_below_its_name_and_not_as_json() -> None:
    assert told(Whole(), None)[:3] == ["name    desk", "tags    best, old", "files"]
    headings, first, second = (line.split() for line in told(Whole(), None)[3:6])
    assert headings == ["job", "state", "model", "title", "version", "digest", "steps"]
    assert (first[0], second[0], first[-1]) == (JOB, JOB, "100")
    assert told(Whole(), None)[6:] == ["config", "    rank  8"]


@pytest.mark.parametrize("width", [80, 120])
def test_records_inside_a_record_break_between_cells_like_tables(width: int) -> None:
    lines = told(Whole(), width)
    assert max(map(len, lines)) <= width
    assert [word for line in lines for word in line.split()].count(JOB) == 2


def test_a_sentence_too_long_for_the_terminal_names_versions_as_short_as_commands_take_them() -> None:
    sentence = f"desk@prod serves {VERSION}."
    assert fitted(sentence, 120) == sentence
    assert fitted(sentence, 80) == f"desk@prod serves {VERSION[:19]}."


def test_one_is_not_many() -> None:
    assert [counted(count, "row") for count in (0, 1, 2)] == ["0 rows", "1 row", "2 rows"]


def test_work_without_a_terminal_says_every_now_and_then_how_far_it_is(monkeypatch, capsys) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with bars() as progress:
        task = progress.add_task("tuning", total=None)
        for seconds, done in ((0.0, 1), (14.0, 2), (15.0, 3), (29.0, 4), (31.0, 5)):
            now = 100.0 + seconds
            progress.update(task, description=f"trial {done}", completed=done, total=9)
    assert capsys.readouterr().err.splitlines() == ["trial 3: 3 of 9", "trial 5: 5 of 9"]
