import errno
import os
from pathlib import Path

import pytest
import torch

from services.chassis.errors import Failure, Reason
from services.trainer import checkpoints
from services.trainer.job import Progress
from tests.unit.trainer import old_formats
from tests.unit.trainer.later_release import of_a_later_format


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


def test_while_losses_are_bad_the_newest_from_before_is_kept_too_and_goes_once_they_are_not(tmp_path: Path) -> None:
    def kept_after(step: int, sound_step: int) -> list[int]:
        tensors = {"weight": torch.full((4,), float(step))}
        checkpoints.write(tmp_path, tensors, Progress(step, 10), {"torch": "x"}, keep_before=sound_step)
        return [found.progress.step for found in checkpoints.kept(tmp_path)]

    assert kept_after(1, 1) == [1]
    assert kept_after(2, 2) == [2, 1]
    assert kept_after(3, 3) == [3, 2]
    for step in (4, 5, 6):
        assert kept_after(step, 3) == [step, step - 1, 2]
    assert kept_after(7, 7) == [7, 6]


def test_a_write_reads_itself_and_what_it_keeps_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large model's checkpoint takes as long to read as to write, and cores that train beside it."""
    write(tmp_path, 1)
    write(tmp_path, 2)
    read: list[str] = []

    def described(path: Path) -> dict[str, object]:
        if path.name == checkpoints.TENSORS:
            read.append(path.parent.name)
        return as_it_is(path)

    as_it_is = checkpoints._described
    monkeypatch.setattr(checkpoints, "_described", described)
    assert write(tmp_path, 3).progress.step == 3
    assert read[0].startswith("tmp-")
    assert read[1:] == ["step-00000003", "step-00000002"]


def test_a_checkpoint_that_cannot_be_read_for_now_is_not_passed_over_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who took it for none would train all its steps again, and then remove it."""
    kept = [write(tmp_path, step).folder for step in (1, 2)]

    def refused(path: Path) -> dict[str, object]:
        if path.parent in kept:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return as_it_is(path)

    as_it_is = checkpoints._described
    monkeypatch.setattr(checkpoints, "_described", refused)
    with pytest.raises(OSError, check=lambda error: error.errno == errno.EMFILE):
        checkpoints.newest(tmp_path)
    with pytest.raises(OSError, check=lambda error: error.errno == errno.EMFILE):
        write(tmp_path, 3)
    monkeypatch.undo()
    assert [found.progress.step for found in checkpoints.kept(tmp_path)] == [3, 2, 1]


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


def test_what_is_stored_beside_the_tensors_comes_back(tmp_path: Path) -> None:
    written = checkpoints.write(
        tmp_path, {"weight": torch.zeros(1)}, Progress(1, 2), {}, state={"evaluations": [{"loss": 0.5}]}
    )
    assert checkpoints.load_state(written) == {"evaluations": [{"loss": 0.5}]}


def test_a_checkpoint_of_the_first_format_is_read(tmp_path: Path) -> None:
    progress = {"step": 3, "total_steps": 10, "trained_tokens": 21, "loss": 0.5}
    old_formats.write(tmp_path, 1, {"generator": torch.zeros(4)}, progress)
    found = checkpoints.newest(tmp_path)
    assert found is not None
    assert (found.format, found.progress) == (1, Progress(3, 10, 21, 0.5))
    assert torch.equal(checkpoints.load_tensors(found)["generator"], torch.zeros(4))
    assert checkpoints.load_state(found) == {}


def test_nobody_goes_on_from_before_a_checkpoint_of_a_later_format(tmp_path: Path) -> None:
    write(tmp_path, 1)
    of_a_later_format(write(tmp_path, 2))
    with pytest.raises(Failure) as refused:
        checkpoints.newest(tmp_path)
    assert refused.value.reason is Reason.CHECKPOINT_TOO_NEW
    assert f"step 2: it has format {checkpoints.FORMAT + 1}" in refused.value.sentence
    assert "Update the trainer" in refused.value.sentence
    # Whoever asks what can be published is told of the rest.
    assert [found.progress.step for found in checkpoints.kept(tmp_path)] == [1]


def test_a_damaged_checkpoint_of_a_later_format_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path, 1)
    of_a_later_format(newer := write(tmp_path, 2))
    (newer.folder / checkpoints.TENSORS).write_bytes(b"half")
    found = checkpoints.newest(tmp_path)
    assert found is not None
    assert found.progress.step == 1


def test_a_checkpoint_of_a_later_format_is_in_nobodys_way_once_there_is_a_newer_one(tmp_path: Path) -> None:
    of_a_later_format(write(tmp_path, 1))
    write(tmp_path, 2)
    found = checkpoints.newest(tmp_path)
    assert found is not None
    assert found.progress.step == 2


def test_a_later_lease_goes_on_from_what_an_earlier_one_wrote_and_clears_it(tmp_path: Path) -> None:
    write(checkpoints.lease_folder(tmp_path, 1), 1)
    write(checkpoints.lease_folder(tmp_path, 1), 2)
    later = checkpoints.lease_folder(tmp_path, 3)
    found = checkpoints.newest(tmp_path)
    assert found is not None
    assert found.progress.step == 2
    write(later, 3)
    assert [entry.progress.step for entry in checkpoints.kept(tmp_path)] == [3, 2]
    write(later, 4)
    assert [entry.folder.parent for entry in checkpoints.kept(tmp_path)] == [later, later]


def test_of_one_step_the_later_lease_counts(tmp_path: Path) -> None:
    write(checkpoints.lease_folder(tmp_path, 1), 1)
    later = checkpoints.lease_folder(tmp_path, 2)
    write(later, 1)
    found = checkpoints.newest(tmp_path)
    assert found is not None
    assert found.folder.parent == later


def test_who_lost_the_lease_writes_nothing_more_and_removes_nothing(tmp_path: Path) -> None:
    zombie = checkpoints.lease_folder(tmp_path, 1)
    write(zombie, 1)
    later = checkpoints.lease_folder(tmp_path, 2)
    write(later, 2)
    with pytest.raises(checkpoints.LeaseLost):
        write(zombie, 3)
    with pytest.raises(checkpoints.LeaseLost):
        checkpoints.lease_folder(tmp_path, 1)
    assert [entry.progress.step for entry in checkpoints.kept(tmp_path)] == [2, 1]


def test_who_loses_the_lease_while_writing_removes_nothing_of_the_later_one(tmp_path: Path) -> None:
    zombie = checkpoints.lease_folder(tmp_path, 1)
    later = tmp_path / "lease-00000002"

    def taken_over(point: str) -> None:
        if point == "folder renamed" and not later.exists():
            for step in (4, 5, 6):
                write(checkpoints.lease_folder(tmp_path, 2), step)

    with pytest.raises(checkpoints.LeaseLost):
        checkpoints.write(zombie, {"weight": torch.zeros(1)}, Progress(9, 10), {}, at=taken_over)
    assert [entry.progress.step for entry in checkpoints.kept(tmp_path)][:2] == [6, 5]
