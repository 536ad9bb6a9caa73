"""A training job against kills of its process and of the trainer: the result is the one that it would have had.

Trainer and processes are forks, which start in tenths of a second; `tests/contract/trainer/test_own_bases.py` kills
those that a deployment starts.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from trivium.registry.v1 import registry_pb2
from trivium.trainer.v1 import training_pb2

from tests.contract.trainer.deployment import Caller, Deployment, deployed, until_struck
from tests.unit.trainer.tiny import make_base, rows_text

SETTINGS = training_pb2.TrainingSettings(
    lora=training_pb2.LoraSettings(rank=4, dropout=0.1),
    epochs=4,
    batch_rows=1,
    learning_rate=1e-3,
    checkpoint_steps=7,
    seed=11,
)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Access, registry and trainer over a tiny base."""
    base: Path = make_base(tmp_path_factory.mktemp("base") / "tiny")
    with deployed(tmp_path_factory.mktemp("kills"), base, forking=True) as running:
        yield running


@pytest.fixture(scope="module")
def undisturbed(deployment: Deployment) -> str:
    """Digest of the weights of a job whose process nobody disturbed; only the registry was away when it ended."""
    with deployment.caller() as caller:
        dataset = caller.upload(rows_text(6).encode(), "kills.jsonl").dataset
        job = caller.create(model="calm", dataset=dataset, settings=SETTINGS)
        caller.until_step(job.job, 10)
        deployment.kill("registry")
        for event in caller.watch(job.job):
            if event.state == training_pb2.JOB_STATE_REGISTERING:
                break
        deployment.start("registry")
    with deployment.caller() as caller:
        return weights(caller, job)


def weights(caller: Caller, job: training_pb2.Job) -> str:
    """Wait for the job; return the digest of the weights that came of it."""
    done = caller.finished(job.job)
    assert done.state == training_pb2.JOB_STATE_SUCCEEDED, done.error
    version = caller.registry.GetVersion(
        registry_pb2.GetVersionRequest(model=done.model, version=done.version), metadata=caller.metadata
    ).version
    return next(str(file.sha256) for file in version.files if file.filename.endswith(".safetensors"))


def test_a_job_whose_process_is_killed_twice_has_the_same_weights(deployment: Deployment, undisturbed: str) -> None:
    def strike() -> bool:
        with deployment.caller() as caller:
            job = caller.create(model="struck", dataset="kills", settings=SETTINGS)
            for step in (3, 40):
                caller.until_step(job.job, step)
                for child in deployment.children():
                    with contextlib.suppress(psutil.NoSuchProcess):
                        child.kill()
            assert weights(caller, job) == undisturbed
            attempts = caller.get(job.job).attempts
            assert attempts <= 3
            return attempts == 3

    until_struck(strike)


def test_a_job_whose_trainer_is_killed_has_the_same_weights_and_a_watcher_misses_nothing(
    deployment: Deployment, undisturbed: str
) -> None:
    def strike() -> bool:
        with deployment.caller() as caller:
            job = caller.create(model="orphaned", dataset="kills", settings=SETTINGS)
            seen = caller.until_step(job.job, 40)
            orphans = deployment.children()
            deployment.kill("trainer")
            for orphan in orphans:
                orphan.wait(10)
            deployment.start("trainer")
        with deployment.caller() as caller:
            events = list(caller.watch(job.job, seen))
            assert [event.sequence for event in events] == list(range(seen + 1, seen + 1 + len(events)))
            assert weights(caller, job) == undisturbed
            attempts = caller.get(job.job).attempts
            assert attempts <= 2
            return attempts == 2

    until_struck(strike)


def test_a_trainer_that_is_stopped_leaves_a_checkpoint_and_goes_on_from_it(
    deployment: Deployment, undisturbed: str
) -> None:
    def strike() -> bool:
        with deployment.caller() as caller:
            job = caller.create(model="drained", dataset="kills", settings=SETTINGS)
            caller.until_step(job.job, 30)
        # A connection that nobody closes holds a server that drains for a second, in which the job trains on to its end.
        deployment.processes["trainer"].terminate()
        deployment.processes["trainer"].wait(60)
        deployment.start("trainer")
        with deployment.caller() as caller:
            assert weights(caller, job) == undisturbed
            notes = [event.message for event in caller.watch(job.job) if event.message.startswith("continuing")]
            # Not at a multiple of seven alone: the stop itself wrote one.
            assert len(notes) <= 1
            return len(notes) == 1

    until_struck(strike)
