"""What the trainer takes of the machine: what `chassis.resources` grants it."""

import json
import os
from pathlib import Path

import pytest

from services.chassis.resources import Role, shares
from services.trainer.composition import _machine
from services.trainer.config import TrainerSettings
from services.trainer.executors.processes import start

GIB = 1024**3


@pytest.fixture
def granted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deployment that may use three cores and eight GiB of its machine."""
    monkeypatch.setenv("TRIVIUM_CORES", "3")
    monkeypatch.setenv("TRIVIUM_MEMORY_BYTES", str(8 * GIB))


@pytest.mark.usefixtures("granted")
def test_jobs_are_planned_on_the_trainers_share_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    share = shares()[Role.TRAINER]
    machine = _machine(TrainerSettings(), "here/1")
    assert (machine.cores, machine.memory_bytes) == (3, share.memory_bytes)
    assert 0 < share.memory_bytes < 8 * GIB
    # Who sets the memory knows better; cores are nobody's to raise here.
    monkeypatch.setenv("TRIVIUM_TRAINER_MEMORY_BYTES", str(5 * GIB))
    assert _machine(TrainerSettings(), "here/1").memory_bytes == 5 * GIB


@pytest.mark.usefixtures("granted")
async def test_a_training_process_has_its_jobs_threads_and_otherwise_the_environment_of_its_share(
    tmp_path: Path,
) -> None:
    running = await start("tests.unit.trainer.environment", tmp_path, 2, many=False)
    output = running.child.process.stdout
    assert output is not None
    found = json.loads(await output.read())
    assert await running.child.wait() == 0
    wanted = shares()[Role.TRAINER].environment() | {"OMP_NUM_THREADS": "2"}
    assert wanted["MKL_NUM_THREADS"] == "3"
    assert {name: found.get(name) for name in wanted} == wanted
    assert found["PATH"] == os.environ["PATH"]
