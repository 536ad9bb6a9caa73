"""What `trivium train-encoder` says before it asks any service."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from trivium_client.cli.exits import Exit
from typer.testing import CliRunner, Result

from services.ops.cli import app
from services.ops.tuning import command, conduct, judgement, recipe
from services.ops.tuning.bases import Base
from services.ops.tuning.judgement import Judged
from services.ops.tuning.passages import Library
from services.ops.tuning.questions import Split
from services.ops.tuning.role import Role

LINE = json.dumps({"question": "How long is leave?", "documents": ["leave.md"]})


@pytest.fixture(autouse=True)
def untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process keeps its priority and its variables: nothing is trained in it."""
    monkeypatch.setattr(command, "_share", lambda threads: threads)


def ran(tmp_path: Path, *arguments: str, lines: str = LINE) -> Result:
    questions = tmp_path / "questions.jsonl"
    questions.write_text(lines)
    return CliRunner().invoke(app, ["train-encoder", "handbook", str(questions), *arguments])


def test_a_model_to_publish_or_a_dry_run_is_asked_for(tmp_path):
    ended = ran(tmp_path)
    assert ended.exit_code == Exit.USAGE
    assert "--dry-run" in ended.output


def test_a_dry_run_takes_the_command_as_it_was_and_publishes_nothing(tmp_path, monkeypatch):
    base = Base("file:x", "x", "sha256:1", tmp_path, Role.EMBEDDER, 48, 64)
    judged = recipe.Outcome(Split((), ()), Library("handbook", (), 0), base, (Judged("base", (0.4,), (0.4,)),))
    wishes: list[recipe.Wish] = []

    def followed(_client: object, wish: recipe.Wish, _told: object) -> recipe.Outcome:
        wishes.append(wish)
        return judged

    monkeypatch.setattr(recipe, "followed", followed)
    ended = ran(tmp_path, "--model", "mine", "--dry-run")
    assert ended.exit_code == Exit.OK
    assert [wish.model for wish in wishes] == [""]
    assert "--model NAME" in ended.output


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"question": "Who?"}', "line 2 is not"),
        ('{"question": "Who?", "documents": [1]}', "line 2 is not"),
        ("not JSON", "line 2 is not"),
    ],
)
def test_a_line_that_is_no_question_is_named(tmp_path, line, said):
    ended = ran(tmp_path, "--dry-run", lines=f"{LINE}\n{line}")
    assert ended.exit_code == Exit.USAGE
    assert said in ended.output


def test_questions_that_no_document_answers_are_left_out_and_counted(tmp_path):
    ended = ran(tmp_path, "--dry-run", lines=f'{LINE}\n{{"question": "Who?", "documents": []}}')
    assert "1 question" in ended.output
    # One question is too few, which is said before any service is asked.
    assert ended.exit_code == Exit.REFUSED
    assert "too few" in ended.output


def test_a_folder_that_exists_is_not_written_into(tmp_path):
    ended = ran(tmp_path, "--model", "mine", "--out", str(tmp_path))
    assert ended.exit_code == Exit.USAGE
    assert "exists" in ended.output


def test_without_the_extra_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(conduct, "LIBRARIES", ("sentence-transformers-of-nobody",))
    ended = ran(tmp_path, "--dry-run")
    assert ended.exit_code == Exit.REFUSED
    assert "pip install -e '.[tuning]'" in ended.output


@pytest.mark.parametrize(
    ("trained", "said"), [(0.5, "Not better, and not published"), (0.2, "-0.200 nDCG@10 over base")]
)
def test_what_is_not_better_is_not_published_and_says_so(tmp_path, monkeypatch, trained, said):
    before, after = (Judged(name, (value,) * 9, (value,) * 9) for name, value in (("base", 0.4), ("trained", trained)))
    unsure = replace(judgement.compared([before], after), low=min(0.0, trained - 0.4))
    base = Base("file:x", "x", "sha256:1", tmp_path, Role.EMBEDDER, 48, 64)
    came = recipe.Outcome(Split((), ()), Library("handbook", (), 0), base, (before,), unsure)
    monkeypatch.setattr(recipe, "followed", lambda *_: came)
    ended = ran(tmp_path, "--model", "mine")
    assert ended.exit_code == Exit.REFUSED
    assert said in ended.output
    assert "0.400" in ended.output
