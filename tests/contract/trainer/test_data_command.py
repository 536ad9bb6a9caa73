"""`trivium data` against a running trainer, and the SDK under it."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from trivium_client import InvalidRequestError, NotFoundError, Trivium
from trivium_client.cli.exits import Exit
from trivium_client.cli.main import app
from trivium_client.nouns import TrainingSettings
from typer.testing import CliRunner, Result

from tests.contract.trainer.deployment import Deployment
from tests.unit.trainer.tiny import rows_text


@pytest.fixture
def client(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trivium]:
    """The SDK, and with the same variables the command line."""
    monkeypatch.setenv("TRIVIUM_DATA_DIR", str(deployment.folder))
    with Trivium() as opened:
        yield opened


def data(*words: str) -> Result:
    return CliRunner().invoke(app, ["data", *words])


def test_a_dataset_is_added_checked_previewed_and_deleted_version_by_version(client: Trivium, tmp_path: Path) -> None:
    path = tmp_path / "desk.csv"
    path.write_text('prompt,completion\nWho?,"Me."\nWhere?,Here.\nWho?,"Me."\n')
    added = data("add", str(path))
    assert added.exit_code == 0, added.output
    path.write_text("prompt,completion\nWho?,You.\n")
    data("add", str(path))
    assert client.data.get("desk").version == 2
    checked = data("check", "desk@1", "--epochs", "1", "--batch-rows", "2")
    assert checked.exit_code == 0
    assert "3 rows for supervised on tiny" in checked.output
    assert "1 row repeats an earlier row" in checked.output
    assert "2 steps over 3 examples" in checked.output
    assert "the row repeats line 2" in checked.output
    shown = data("preview", "desk@1", "--rows", "1")
    assert "[[Me.<|im_end|>]]" in shown.output
    assert [problem.line for problem in client.data.problems("desk@1")] == [4]
    assert data("delete", "desk").output == "Deleted desk.\n"
    assert client.data.get("desk").version == 1
    assert data("check", "desk", "--objective", "dpo").exit_code == Exit.REFUSED


def test_a_file_without_a_row_is_refused_as_a_file(client: Trivium, tmp_path: Path) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_text("")
    with pytest.raises(InvalidRequestError) as refused:
        client.data.upload(path)
    assert [violation.field for violation in refused.value.violations] == ["file"]


def test_all_problems_of_a_refused_file_are_listed_by_its_digest(client: Trivium, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(rows_text() + '{"prompt": "a"}\n' * 30)
    with pytest.raises(InvalidRequestError, match=r"\b30\b.*\bline 11\b.*\btrivium data problems sha256:"):
        client.data.upload(path)
    digest = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    assert [problem.line for problem in client.data.problems(digest)] == list(range(11, 41))
    listed = data("problems", digest, "--json")
    assert len(json.loads(listed.output)) == 30
    with pytest.raises(NotFoundError):
        client.data.get("bad")


def test_a_preview_goes_on_over_several_answers(client: Trivium, tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    path.write_text("".join(f'{{"prompt": "{number}", "completion": "{"x" * 900}"}}\n' for number in range(60)))
    client.data.upload(path)
    rows = client.data.preview("long", offset=1, rows=50, settings=TrainingSettings(max_row_tokens=1024))
    assert [row.line for row in rows] == list(range(2, 52))
