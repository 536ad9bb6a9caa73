"""A job is followed through restarts of the trainer: no event is lost or told twice, by the SDK or on a terminal."""

import contextlib
import hashlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from trivium.trainer.v1 import training_pb2
from trivium_client import Trivium, TriviumError
from trivium_client.cli.exits import Exit
from trivium_client.nouns import Job, LoraSettings, TrainingSettings

from tests.contract.trainer.deployment import Caller, Deployment
from tests.contract.trainer.test_command_line import train
from tests.contract.trainer.test_jobs import LONG, running
from tests.stack import eventually
from tests.unit.trainer.tiny import rows_text

COMMAND = [sys.executable, "-c", "from trivium_client.cli import main; main()", "train"]


@pytest.fixture(scope="module")
def dataset(caller: Caller) -> str:
    """A stored dataset's id."""
    return str(caller.upload(rows_text(4).encode(), "followed.jsonl").dataset)


@pytest.fixture(scope="module")
def job(caller: Caller, dataset: str) -> Iterator[str]:
    """A job that trains until somebody ends it."""
    begun = caller.create(model="followed", dataset=dataset, settings=LONG).job
    running(caller, begun)
    yield begun
    end(caller, begun)
    caller.finished(begun)


def end(caller: Caller, job: str) -> None:
    """Ask a job to end, which no longer need be running."""
    with contextlib.suppress(Exception):
        caller.training.CancelJob(
            training_pb2.CancelJobRequest(job=job), metadata=caller.metadata, wait_for_ready=True, timeout=60
        )


def restarted(deployment: Deployment, how: int) -> None:
    """End the trainer by a signal, and start it again where it was."""
    process = deployment.processes["trainer"]
    process.send_signal(how)
    process.wait(30)
    deployment.start("trainer")


@contextlib.contextmanager
def watched_on_a_terminal(deployment: Deployment, job: str) -> Iterator[tuple["subprocess.Popen[bytes]", list[bytes]]]:
    """`trivium train watch` with a terminal to draw on, and what it drew so far."""
    master, terminal = pty.openpty()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TRIVIUM_")}
    environment = {**inherited, "TRIVIUM_DATA_DIR": str(deployment.folder), "COLUMNS": "70", "LINES": "24"}
    watching = subprocess.Popen([*COMMAND, "watch", job], env={**environment, "TERM": "xterm"}, stderr=terminal)
    os.close(terminal)
    seen: list[bytes] = []

    def read() -> None:
        # The terminal hangs up when the command has ended.
        with contextlib.suppress(OSError):
            while piece := os.read(master, 65536):
                seen.append(piece)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield watching, seen
    finally:
        watching.kill()
        watching.wait(10)
        reader.join(10)
        os.close(master)


def drawn(seen: list[bytes], since: int = 0) -> bool:
    """Whether a curve was drawn since so many pieces were seen."""
    return b"smoothed" in b"".join(seen[since:])


def test_whoever_follows_a_job_that_waits_learns_how_it_stands(
    deployment: Deployment, caller: Caller, dataset: str, job: str
) -> None:
    settings = TrainingSettings(method="rslora", schedule="cosine", epochs=2, lora=LoraSettings(rank=4, dropout=0.1))
    with Trivium(data_dir=deployment.folder) as client:
        waits = client.jobs.create(model="followed", dataset=dataset, settings=settings, depends_on=[job])
        assert (waits.depends_on, waits.state) == ((job,), "queued")
        assert (waits.settings.method, waits.settings.schedule, waits.settings.epochs) == ("rslora", "cosine", 2)
        assert (waits.settings.lora.rank, waits.settings.lora.dropout) == (4, 0.1)
        assert client.jobs.checkpoints(waits.job) == []
        stands: list[Job] = []
        events = client.jobs.watch(waits.job, stands=stands.append, every_seconds=0.1)
        told = [next(events)]
        stood = eventually(lambda: stands, "how it stands was told")[0]
        assert (stood.job, stood.state) == (waits.job, "queued")
        assert stood.waiting_reason
        end(caller, waits.job)
        told += events
    assert [event.sequence for event in told] == list(range(1, len(told) + 1))


def test_a_job_is_followed_through_a_kill_and_a_stop_of_the_trainer(
    deployment: Deployment, caller: Caller, job: str
) -> None:
    losses: list[TriviumError] = []
    with Trivium(data_dir=deployment.folder) as client, watched_on_a_terminal(deployment, job) as (watching, seen):
        events = client.jobs.watch(job, lost=losses.append)
        heard = [next(events) for _ in range(4)]
        eventually(partial(drawn, seen), "the curve is drawn")
        for restarts, how in enumerate((signal.SIGKILL, signal.SIGTERM), 1):
            restarted(deployment, how)
            since = len(seen)
            while len(losses) < restarts or heard[-1].kind != "step":
                heard.append(next(events))
            eventually(partial(drawn, seen, since), "the curve is drawn again")
        end(caller, job)
        heard += events
        assert watching.wait(60) == Exit.FAILURE
    assert [event.sequence for event in heard] == list(range(1, len(heard) + 1))
    assert heard[-1].state == "cancelled"
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", b"".join(seen).decode())
    assert re.search(r"training, step \d+ of 20,000", text)
    assert re.search(r"[⠁-⣿]", text)
    assert "gradient norm" in text
    assert "Traceback" not in text


def test_a_file_becomes_a_version_in_one_command_and_is_told_to_pipes_and_programs(
    deployment: Deployment, caller: Caller, job: str, tmp_path: Path
) -> None:
    # It would wait for the job that trains.
    end(caller, job)
    file = tmp_path / "One Command.jsonl"
    # Rows of its own: known bytes are the dataset that they are already.
    file.write_text(rows_text(2) + '{"prompt": "Is one command enough?", "completion": "It is."}\n')
    ran = train(deployment, str(file), "--alias", "-", "--epochs", "1", "--rank", "4", "--set", "keep=last")
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert lines[0].startswith("One Command.jsonl is the dataset one-command: 11 rows of ")
    assert any(line.startswith("one-command has version sha256:") for line in lines)
    everything = caller.training.ListJobs(training_pb2.ListJobsRequest(), metadata=caller.metadata).jobs
    (made,) = [each for each in everything if each.model == "one-command"]
    assert (made.settings.lora.rank, made.settings.epochs, made.alias) == (4, 1, "")
    assert made.settings.keep == training_pb2.KEEP_LAST
    assert lines[-1].startswith("trivium chat ")
    assert lines[-1].endswith(f" -m one-command@{made.version[:19]}")
    assert f"registered as {made.version}" in ran.stderr.splitlines()
    assert not re.search(r"[⠀-⣿]", ran.stderr)

    told = train(deployment, "watch", made.job, "--json")
    events = [json.loads(line) for line in told.stdout.splitlines()]
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    assert {event["kind"] for event in events} >= {"state", "step"}
    assert told.stderr == ""


def test_a_file_that_is_refused_is_refused_by_line_before_anything_is_trained(
    deployment: Deployment, tmp_path: Path
) -> None:
    file = tmp_path / "broken.jsonl"
    file.write_text(rows_text(2) + '{"prompt": "no completion"}\n' * 30)
    ran = train(deployment, str(file))
    assert ran.returncode == Exit.REFUSED
    headings, first, second, *_ = [line.split() for line in ran.stderr.splitlines()[1:]]
    assert headings == ["line", "field", "problem"]
    assert (first[0], second[0]) == ("11", "12")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert f"and 10 more; listed for a day: trivium data problems sha256:{digest}" in ran.stderr
    assert ran.stdout == ""
