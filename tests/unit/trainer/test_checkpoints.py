from pathlib import Path

import pytest
import torch

from services.trainer import checkpoints
from services.trainer.job import Progress


def write(parent: Path, step: int) -> checkpoints.Checkpoint:
    return checkpoints.write(
        parent, {"weight": torch.full((4,), float(step))}, Progress(step, 10, step * 7, 0.5), {"torch": "x"}
    )


def test_a_checkpoint_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write(tmp_path, 3)
    found = checkpoints.newest(tmp_path)
    assert found is not None
    assert found.progress == Progress(3, 10, 21, 0.5)
    assert torch.equal(checkpoints.load_tensors(found)["weight"], torch.full((4,), 3.0))


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        write(tmp_path, step)
    assert [found.progress.step for found in checkpoints.kept(tmp_path)] == [4, 3]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("name", [checkpoints.TENSORS, checkpoints.PROGRESS, checkpoints.MANIFEST])
def test_a_checkpoint_with_a_missing_file_is_passed_over(tmp_path: Path, name: str) -> None:
    write(tmp_path, 1)
    (write(tmp_path, 2).folder / name).unlink()
    found = checkpoints.newest(tmp_path)
    assert found is not None
    assert found.progress.step == 1


def test_a_checkpoint_with_one_changed_byte_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path, 1)
    path = write(tmp_path, 2).folder / checkpoints.TENSORS
    changed = bytearray(path.read_bytes())
    changed[-1] ^= 1
    path.write_bytes(changed)
    found = checkpoints.newest(tmp_path)
    assert found is not None
    assert found.progress.step == 1


def test_an_empty_newer_folder_neither_wins_nor_pushes_a_good_one_out(tmp_path: Path) -> None:
    write(tmp_path, 1)
    for name in ("step-00000008", "step-00000009"):
        (tmp_path / name).mkdir()
    write(tmp_path, 2)
    assert [found.progress.step for found in checkpoints.kept(tmp_path)] == [2, 1]


def test_what_killed_writers_left_is_swept(tmp_path: Path) -> None:
    (tmp_path / "tmp-1").mkdir()
    write(tmp_path, 1)
    checkpoints.sweep(tmp_path)
    assert [folder.name for folder in tmp_path.iterdir()] == ["step-00000001"]
