"""The SDK and the command line keep files and run batches: what is stored, said and printed."""

import json
from pathlib import Path

import pytest
from trivium_client import InvalidRequestError, NotFoundError, Trivium
from trivium_client.cli.exits import Exit
from trivium_client.cli.main import app
from typer.testing import CliRunner

from tests.adapters import noise
from tests.answering_door import requests
from tests.filing import Filing, Keeper


@pytest.fixture
def client(filing: Filing, keeper: Keeper):
    with Trivium(api_key=keeper.credential, addresses={"files": filing.process.address}) as opened:
        yield opened


@pytest.fixture
def cli(filing: Filing, keeper: Keeper, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TRIVIUM_API_KEY", keeper.credential)
    monkeypatch.setenv("TRIVIUM_FILES_ADDRESS", filing.process.address)

    def run(*words: str, code: int = 0) -> str:
        done = CliRunner().invoke(app, list(words))
        assert done.exit_code == code, (done.output, done.exception)
        return done.stdout

    return run


def test_the_sdk_stores_lists_reads_and_deletes_files(client: Trivium, tmp_path: Path):
    path = tmp_path / "räder.bin"
    path.write_bytes(noise(700_000))
    heard: list[tuple[int, int]] = []
    made = client.files.upload(path, purpose="evals", progress=lambda sent, whole: heard.append((sent, whole)))
    assert (made.filename, made.purpose, made.size_bytes, made.expire_time) == (path.name, "evals", 700_000, None)
    assert heard[-1] == (700_000, 700_000)
    assert client.files.get(made.file) == made
    assert list(client.files.list(purpose="evals")) == [made]
    assert list(client.files.list(purpose="batch")) == []
    assert client.files.read(made.file) == path.read_bytes()
    there = tmp_path / "there"
    there.mkdir()
    target = client.files.download(made.file, there)
    assert (target.name, target.read_bytes()) == (path.name, path.read_bytes())
    client.files.delete(made.file)
    with pytest.raises(NotFoundError):
        client.files.get(made.file)
    with pytest.raises(ValueError, match=r"vision.* fine-tune"):
        client.files.upload(path, purpose="vision")


def test_a_name_that_is_a_path_elsewhere_is_none_here(client: Trivium, keeper: Keeper, tmp_path: Path):
    made = keeper.upload(b"x", "../../outside.txt")
    assert client.files.download(made.file, tmp_path) == tmp_path / "outside.txt"


def test_the_sdk_runs_a_batch_to_its_end(client: Trivium, tmp_path: Path):
    path = tmp_path / "requests.jsonl"
    path.write_bytes(requests(1, 2, -3))
    file = client.files.upload(path, purpose="batch")
    begun = client.batches.create(file.file, endpoint="/v1/completions", metadata={"for": "test"})
    heard: list[str] = []
    ended = client.batches.wait(begun.batch, lambda batch: heard.append(batch.state))
    assert (ended.state, ended.total, ended.completed, ended.failed) == ("completed", 3, 2, 1)
    assert (ended.prompt_tokens, ended.completion_tokens, dict(ended.metadata)) == (6, 4, {"for": "test"})
    assert heard[-1] == "completed"
    assert [json.loads(line)["custom_id"] for line in client.files.read(ended.output_file).splitlines()] == ["c1", "c2"]
    assert list(client.batches.list()) == [ended]
    with pytest.raises(ValueError, match="endpoint"):
        client.batches.create(file.file, endpoint="/v1/moderations")
    with pytest.raises(NotFoundError):
        client.batches.cancel("batch_none")
    with pytest.raises(InvalidRequestError):
        client.batches.create(ended.output_file)


def test_the_command_line_says_the_same(cli, tmp_path: Path):
    path = tmp_path / "requests.jsonl"
    path.write_bytes(requests(1, 2))
    ended = json.loads(cli("batches", "run", str(path), "--endpoint", "/v1/completions", "--json"))
    assert (ended["state"], ended["completed"]) == ("completed", 2)
    assert ended["batch"] in cli("batches", "list")
    assert json.loads(cli("batches", "get", ended["batch"], "--json")) == ended
    assert json.loads(cli("batches", "wait", ended["batch"], "--json")) == ended
    target = tmp_path / "answers.jsonl"
    assert cli("files", "download", ended["output_file"], str(target)).strip() == str(target)
    assert len(target.read_text().splitlines()) == 2
    assert ended["output_file"] in cli("files", "list", "--purpose", "batch_output")
    made = json.loads(cli("files", "add", str(path), "--json"))
    assert made["purpose"] == "user_data"
    assert made["file"] in cli("files", "get", made["file"])
    cli("files", "delete", made["file"])
    assert made["file"] not in cli("files", "list")


def test_a_bad_input_is_told_and_is_no_success(cli, tmp_path: Path):
    path = tmp_path / "requests.jsonl"
    path.write_bytes(b"nothing\n")
    printed = cli("batches", "run", str(path), "--json", code=Exit.REFUSED)
    assert json.loads(printed)["problems"][0]["code"] == "invalid_json_line"
