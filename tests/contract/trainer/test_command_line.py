"""`trivium train` against a running trainer: jobs by a part of their id, and one line of what holds after a verb."""

import asyncio
import contextlib
import gc
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest
from trivium.trainer.v1 import training_pb2
from trivium_client import NotFoundError, Trivium
from trivium_client.cli import main
from trivium_client.cli.exits import Exit
from trivium_client.loop import is_served_wakeup

from tests.contract.trainer.deployment import Caller, Deployment
from tests.contract.trainer.test_jobs import LONG, SHORT, paused, running
from tests.stack import eventually
from tests.unit.trainer.tiny import rows_text


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture(scope="module")
def jobs(caller: Caller) -> Iterator[tuple[str, str]]:
    """Two unfinished jobs of one moment: the first is paused, as it would train all the while; the second waits for it."""
    dataset = caller.upload(rows_text(3).encode(), "parts.jsonl").dataset
    first = caller.create(model="parts", dataset=dataset, settings=LONG).job
    paused(caller, first)
    second = caller.create(model="parts", dataset=dataset, settings=LONG, depends_on=[first]).job
    yield first, second
    for job in (second, first):
        caller.training.CancelJob(training_pb2.CancelJobRequest(job=job), metadata=caller.metadata)
        caller.finished(job)


def shared(jobs: tuple[str, str]) -> str:
    """What both ids begin with."""
    first, second = jobs
    return next(first[:length] for length in range(len(first), 0, -1) if second.startswith(first[:length]))


def train(deployment: Deployment, *arguments: str) -> Ran:
    """Run a command in this process, which has loaded what it needs, with pipes for its output."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TRIVIUM_")}
    environment = {**inherited, "TRIVIUM_DATA_DIR": str(deployment.folder), "COLUMNS": "80"}
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, environment, clear=True),
        mock.patch.object(sys, "argv", ["trivium", "train", *arguments]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    return Ran(int(ended.value.code or 0), out.getvalue(), err.getvalue())


def test_a_watched_job_ends_with_its_version_whole_on_a_line(deployment: Deployment, caller: Caller) -> None:
    dataset = caller.upload(rows_text(3).encode(), "whole.jsonl").dataset
    job = caller.create(model="whole", dataset=dataset, settings=SHORT).job
    ran = train(deployment, "watch", job)
    version = caller.get(job).version
    assert ran.returncode == 0, ran.stderr
    assert f"registered as {version}" in ran.stderr.splitlines()
    assert ran.stdout.startswith(f"whole has version {version}; ")


def test_a_started_job_is_followed_behind_what_the_trainer_warns_of(deployment: Deployment, caller: Caller) -> None:
    dataset = caller.upload(rows_text(3).encode(), "whole.jsonl").dataset
    settings = ["--epochs", "1", "--batch-rows", "5", "--rank", "32", "--alias", "-"]
    ran = train(deployment, "start", dataset, "-m", "wide", *settings)
    assert ran.returncode == 0, ran.stderr
    said = ran.stderr.splitlines()
    begun = next(place for place, line in enumerate(said) if line.startswith("job "))
    # What the order makes of its rows and what it costs, before it begins and beside what programs read.
    assert any(re.match(r"\d+ steps? over \d+ tokens", line) for line in said[:begun])
    assert [line.startswith("warning: rank 32 is over 16") for line in said].count(True) == 1
    assert ran.stdout.startswith("wide has version sha256:")


def test_a_file_is_checked_as_the_order_that_will_be_sent_trains_on_it(deployment: Deployment, tmp_path: Path) -> None:
    file, others = tmp_path / "checked.jsonl", tmp_path / "checked-others.jsonl"
    long = {"prompt": "Who waits?", "completion": "All who came by the late boat. " * 4}
    file.write_text(rows_text(1) + json.dumps(long) + "\n")
    others.write_text(
        rows_text(1).splitlines()[0]
        + "\n"
        + json.dumps({"prompt": "Who boards?", "completion": "Nobody, once the bell has rung. " * 5})
        + "\n"
    )
    settings = ["--dry-run", "--max-row-tokens", "150", "--validation", str(others), "--rank", "32"]
    ran = train(deployment, str(file), *settings)
    assert ran.returncode == 0, ran.stderr
    lines = [" ".join(line.split()) for line in ran.stdout.splitlines()]
    assert lines[0].startswith("checked.jsonl is the dataset checked: 6 rows of ")
    assert any(line.startswith("1 of 6 rows are longer than 150 tokens and lose their end") for line in lines)
    assert any(line.startswith("1 rows are in the validation dataset too") for line in lines)
    warned, evaluated = (
        lines.index(heading) for heading in ("2 warnings:", "1 warning in checked-others, to evaluate on:")
    )
    assert [line.split()[0] for line in lines[warned + 2 : warned + 4]] == ["1", "6"]
    assert "will be cut at its end" in lines[evaluated + 2]
    assert sum(line.startswith("warning: rank 32 is over 16") for line in lines) == 1
    assert lines[-1] == "Nothing was started."
    # By default nothing of it is cut, and rows to evaluate on are others.
    plain = train(deployment, str(file), "--dry-run").stdout
    assert "lose their end" not in plain
    assert "validation dataset" not in plain
    told = train(deployment, str(file), *settings, "--json")
    records = [json.loads(line) for line in told.stdout.splitlines()]
    assert [kind for record in records for kind in record] == ["dataset", "dataset", "check", "check", "estimate"]
    assert (records[2]["check"]["report"]["cut_rows"], records[2]["check"]["report"]["shared_rows"]) == (1, 1)


def test_rows_of_which_the_order_leaves_nothing_are_refused_before_anything_is_queued(
    deployment: Deployment, caller: Caller, tmp_path: Path
) -> None:
    file = tmp_path / "nothing-left.jsonl"
    file.write_text(json.dumps({"prompt": "Say it twice.", "completion": "Twice."}) + "\n")
    for words in ([str(file)], ["sweep", str(file), "--try", "lora.rank=2,4", "--validation-ratio", "0.5"]):
        ran = train(deployment, *words, "--max-row-tokens", "8")
        assert ran.returncode == Exit.REFUSED, ran.stdout + ran.stderr
        assert "1 problem:" in ran.stdout
        assert "raise max_row_tokens" in ran.stdout
    ran = train(deployment, "start", "nothing-left", "-m", "nothing-left", "--max-row-tokens", "8", "--json")
    assert (ran.returncode, ran.stdout) == (Exit.REFUSED, "")
    assert "raise max_row_tokens" in ran.stderr
    everything = caller.training.ListJobs(training_pb2.ListJobsRequest(), metadata=caller.metadata).jobs
    assert [job for job in everything if job.model == "nothing-left"] == []


def test_a_job_is_named_by_its_end_and_each_verb_says_in_a_line_what_holds(
    deployment: Deployment, jobs: tuple[str, str]
) -> None:
    _, waiting = jobs
    for verb, state in (("pause", "paused"), ("resume", "queued"), ("pause", "paused")):
        ran = train(deployment, verb, waiting[-8:])
        assert (ran.returncode, ran.stdout) == (0, f"{waiting} is {state}, at step 0 of 15000.\n"), ran.stderr
    as_json = json.loads(train(deployment, "resume", waiting, "--json").stdout)
    assert (as_json["job"], as_json["state"], as_json["settings"]["epochs"]) == (waiting, "queued", 1000)


def test_a_job_is_named_by_its_beginning_where_no_other_begins_so(
    deployment: Deployment, jobs: tuple[str, str]
) -> None:
    for job in jobs:
        ran = train(deployment, "show", job[: len(shared(jobs)) + 1])
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.splitlines()[0].split() == ["job", job]


def test_what_several_jobs_begin_with_is_wrong_usage_and_names_them(
    deployment: Deployment, jobs: tuple[str, str]
) -> None:
    for verb in ("watch", "cancel"):
        ran = train(deployment, verb, shared(jobs))
        assert ran.returncode == Exit.USAGE, verb
        assert all(job in ran.stderr for job in jobs), ran.stderr
        assert "parts" in ran.stderr
        assert ran.stdout == ""


@pytest.mark.parametrize("given", ["no-such-job", "0" * 8, "00000000-0000-7000-8000-000000000000"])
def test_what_no_job_begins_or_ends_with_is_not_found(
    deployment: Deployment, jobs: tuple[str, str], given: str
) -> None:
    ran = train(deployment, "cancel", given)
    assert ran.returncode == Exit.NOT_FOUND
    assert given in ran.stderr


def test_a_part_of_less_than_four_characters_names_nothing(deployment: Deployment, jobs: tuple[str, str]) -> None:
    assert train(deployment, "cancel", jobs[1][-3:]).returncode == Exit.NOT_FOUND


def test_a_list_in_a_pipe_has_every_id_on_a_line_of_its_own(deployment: Deployment, jobs: tuple[str, str]) -> None:
    lines = train(deployment, "list").stdout.splitlines()
    for job in jobs:
        # One that waits may name another, behind all else.
        (line,) = [line for line in lines if line.startswith(job)]
        assert "parts" in line


def test_an_interrupted_watch_ends_at_once_and_says_how_to_go_on(
    deployment: Deployment, caller: Caller, jobs: tuple[str, str]
) -> None:
    _, waits = jobs
    # Where whoever runs the tests ignores interrupts, a child of theirs does too.
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from trivium_client.cli import main; main()"
    )
    environment = {**os.environ, "TRIVIUM_DATA_DIR": str(deployment.folder)}
    words = [sys.executable, "-c", program, "train", "watch", waits[-12:]]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as watch:
        assert watch.stderr is not None
        assert watch.stderr.readline()
        watch.send_signal(signal.SIGINT)
        out, err = watch.communicate(timeout=30)
    assert (watch.returncode, out) == (Exit.INTERRUPTED, "")
    assert err.splitlines()[-1] == f"The job goes on. To follow it: trivium train watch {waits}"
    assert caller.get(waits).state == training_pb2.JOB_STATE_QUEUED


def test_no_task_is_left_of_a_watch_that_was_left(deployment: Deployment, jobs: tuple[str, str]) -> None:
    # What a call leaves is gone by chance within a moment, so several are left.
    heard: list[str] = []
    # Objects of earlier tests stay out of the collection: the libraries they loaded take seconds.
    gc.freeze()
    try:
        for _ in range(10):
            client = Trivium(data_dir=deployment.folder)
            loop = client._loop._loop
            loop.set_exception_handler(
                lambda _, context: None if is_served_wakeup(context) else heard.append(context["message"])
            )
            events = client.jobs.watch(jobs[0])
            assert next(events).sequence == 1
            with pytest.raises(NotFoundError):
                client.jobs.get("no-such-job")
            client.close()
            left = asyncio.all_tasks(loop)
            del client, events
            gc.collect()
            assert (left, heard) == (set(), [])
    finally:
        gc.unfreeze()


def test_a_sweep_shows_its_members_and_ends_with_the_version_of_the_best(deployment: Deployment) -> None:
    rows = deployment.folder / "swept-rows.jsonl"
    rows.write_text(rows_text(4))
    settings = ["--epochs", "1", "--batch-rows", "5", "--validation-ratio", "0.2", "--alias", "-"]
    axes = ["--try", "learning_rate=1e-3,1e-2", "--set", "lora.rank=2"]
    ran = train(deployment, "sweep", str(rows), *axes, *settings)
    assert ran.returncode == 0, ran.stderr
    assert "swept-rows has version sha256:" in ran.stdout
    for rate in ("1e-3", "1e-2"):
        assert f"(learning_rate={rate})" in ran.stderr
    with Trivium(data_dir=deployment.folder) as client:
        found = next(client.sweeps.list())
    assert found.version in ran.stdout
    shown = train(deployment, "sweeps", found.sweep)
    assert shown.returncode == 0, shown.stderr
    assert all(member.job in shown.stdout for member in found.table)
    assert found.sweep in train(deployment, "sweeps").stdout


def until_measured(caller: Caller, dataset: str) -> None:
    """Ask for estimates until the trainer has measured its machine: where that takes longer than it waits, they have no time."""
    job = training_pb2.CreateJobRequest(model="measured", dataset=dataset, settings=SHORT)
    asked = training_pb2.EstimateJobRequest(job=job)
    eventually(lambda: caller.training.EstimateJob(asked, metadata=caller.metadata).seconds > 0, "it is measured", 240)


def test_a_sweep_is_told_with_its_cost_before_it_begins_and_once_what_the_trainer_warns_of(
    deployment: Deployment, caller: Caller
) -> None:
    dataset = caller.upload(rows_text(4).encode(), "swept-rows.jsonl").dataset
    until_measured(caller, dataset)
    axes = ["--try", "lora.rank=2,32", "--try", "learning_rate=1e-3,1e-2"]
    words = ["sweep", dataset, "-m", "wide", *axes, "--validation-ratio", "0.2"]
    words += ["--epochs", "1000", "--batch-rows", "1"]  # so that the cancellation below meets it at work
    before = caller.training.ListSweeps(training_pb2.ListSweepsRequest(), metadata=caller.metadata).sweeps
    dry = train(deployment, *words, "--dry-run").stdout.splitlines()
    assert dry[0].startswith("4 members with ")
    assert any(line.startswith("Memory: ") and "for all at once" in line for line in dry)
    assert (dry.count("Nothing was started."), sum("rank 32 is over 16" in line for line in dry)) == (1, 1)
    whole = json.loads(train(deployment, *words, "--dry-run", "--json").stdout)["estimate"]
    halved = json.loads(train(deployment, *words, "--rungs", "0.5", "--dry-run", "--json").stdout)["estimate"]
    assert whole["members"] == halved["members"] == 4
    assert 0 < halved["tokens"] < whole["tokens"]
    assert caller.training.ListSweeps(training_pb2.ListSweepsRequest(), metadata=caller.metadata).sweeps == before

    ran = train(deployment, *words, "--no-watch")
    assert (ran.returncode, ran.stdout) == (0, ""), ran.stderr
    *said, begun = ran.stderr.splitlines()
    assert dry[:-1] == said[-len(dry) + 1 :]
    assert sum(line.startswith("warning: rank 32 is over 16") for line in said) == 1
    name = begun.split()[1]
    assert train(deployment, "sweeps", name, "--cancel").returncode == 0
    for job in caller.training.GetSweep(
        training_pb2.GetSweepRequest(sweep=name), metadata=caller.metadata
    ).sweep.members:
        caller.finished(job.job)


def test_a_checkpoint_is_published_by_the_end_of_its_jobs_id(deployment: Deployment, caller: Caller) -> None:
    dataset = caller.upload(rows_text(5).encode(), "kept-rows.jsonl").dataset
    settings = training_pb2.TrainingSettings()
    settings.CopyFrom(LONG)
    settings.checkpoint_steps = 1
    job = caller.create(model="kept-rows", dataset=dataset, settings=settings).job
    running(caller, job)
    paused(caller, job)
    step = caller.get(job).step
    ran = train(deployment, "publish", job[-12:], "--step", str(step), "--name", "kept-trial")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("kept-trial has version sha256:")
    assert ran.stdout.endswith(f"the weights after step {step}\n")
    absent = train(deployment, "publish", job[-12:], "--step", str(step + 1000))
    assert absent.returncode == Exit.NOT_FOUND
    assert f"of step {step + 1000}; it keeps those of the steps {step}" in absent.stderr
    caller.training.CancelJob(training_pb2.CancelJobRequest(job=job), metadata=caller.metadata)
    caller.finished(job)
