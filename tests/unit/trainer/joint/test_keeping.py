"""What is written behind a worker's back: nothing of a job that is gone, and nothing half done."""

from pathlib import Path

import torch

from services.chassis.errors import Failure, Reason
from services.trainer import checkpoints
from services.trainer.job import Progress
from services.trainer.joint.held import Held
from services.trainer.joint.keeping import Keeper, Kept, Snapshot
from services.trainer.work import CHECKPOINTS, Line, Said

SNAPSHOT = Snapshot({"slot.weights": torch.ones(4)}, {}, Progress(step=3, total_steps=9))


def kept(held: Held, *, at: checkpoints.WritePoint = lambda _: None) -> list[Kept]:
    """Have a snapshot written."""
    told: list[Kept] = []
    keeper = Keeper(told.append, most_bytes=1, at=at)
    keeper.put(held, SNAPSHOT)
    keeper.close()
    keeper.run()
    return told


def held_in(folder: Path) -> Held:
    (folder / CHECKPOINTS).mkdir(parents=True)
    return Held("a", "t", folder, epoch=1)


def test_a_snapshot_is_a_checkpoint_when_it_is_said_to_be(tmp_path: Path) -> None:
    (said,) = kept(held_in(tmp_path))
    assert said.line == Line(Said.CHECKPOINT, SNAPSHOT.progress)
    found = checkpoints.newest(tmp_path / CHECKPOINTS)
    assert found is not None
    assert torch.equal(checkpoints.load_tensors(found)["slot.weights"], torch.ones(4))


def test_nothing_is_written_of_a_job_that_is_gone(tmp_path: Path) -> None:
    held = held_in(tmp_path)
    held.gone = True
    assert kept(held) == []
    assert checkpoints.newest(tmp_path / CHECKPOINTS) is None


def test_a_disk_that_fills_up_within_a_write_leaves_nothing_of_it(tmp_path: Path) -> None:
    def at(point: str) -> None:
        if point == "tensors written":
            raise Failure(Reason.DISK_FULL, what="the training jobs")

    held = held_in(tmp_path)
    (said,) = kept(held, at=at)
    assert said.refusal is not None
    assert said.refusal.reason == "DISK_FULL"
    assert held.gone
    assert not list((tmp_path / CHECKPOINTS).rglob("tmp-*"))
