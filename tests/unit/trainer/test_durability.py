"""What is on disk before it is said to be: the calls that make it so, in their order.

A killed process leaves the kernel's pages behind, so no kill shows a sync that is missing: a power cut does.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from services.trainer import checkpoints
from services.trainer.job import Progress
from services.trainer.joint.held import Held
from services.trainer.joint.keeping import Keeper, Result, Snapshot, Task
from services.trainer.results import publish_result
from services.trainer.settings import Settings
from services.trainer.solo.order import Hooks, SoloOrder
from services.trainer.solo.writing import Writer
from services.trainer.work import CHECKPOINTS, RESULT, RESULT_MANIFEST

PROGRESS = Progress(step=3, total_steps=9)
TENSORS = {"slot.weights": torch.ones(4)}


@dataclass(frozen=True, slots=True)
class Synced:
    """A file or folder, and what it held when it was synced: bytes, or names."""

    path: Path
    held: bytes | list[str]


@dataclass(frozen=True, slots=True)
class Renamed:
    """A file or folder that got another name."""

    old: Path
    new: Path


@dataclass(frozen=True, slots=True)
class Told:
    """The word on which the trainer makes a row."""


Call = Synced | Renamed | Told


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """What has been called so far."""
    found: list[Call] = []
    sync, names = os.fsync, {name: getattr(os, name) for name in ("rename", "replace")}

    def synced(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        sync(descriptor)
        found.append(Synced(path, held_by(path)))

    def renamed(rename: Callable[..., None], old: Path, new: Path) -> None:
        rename(old, new)
        found.append(Renamed(Path(old), Path(new)))

    monkeypatch.setattr(os, "fsync", synced)
    for name, rename in names.items():
        monkeypatch.setattr(os, name, lambda old, new, rename=rename: renamed(rename, old, new))
    return found


def held_by(path: Path) -> bytes | list[str]:
    return sorted(os.listdir(path)) if path.is_dir() else path.read_bytes()


def wrong(calls: list[Call], folder: Path, last: str = "") -> list[str]:
    """What would be missing of the written `folder` after a power cut behind the word; `last` is to be synced last."""
    (place,) = [index for index, call in enumerate(calls) if isinstance(call, Renamed) and call.new == folder]
    renamed = calls[place]
    assert isinstance(renamed, Renamed)
    synced = [call for call in calls[:place] if isinstance(call, Synced)]
    found = []
    for path in (folder, *folder.iterdir()):
        # Whatever was synced before it was written whole counts for nothing.
        whole = Synced(renamed.old / path.relative_to(folder), held_by(path))
        if whole not in synced:
            found.append(f"{path.name} is not on disk when {folder.name} gets its name")
    files = [call.path.name for call in synced if call.path.parent == renamed.old]
    if last and (not files or files[-1] != last):
        found.append(f"{last} is not the last that is on disk")
    told = calls.index(Told())
    named = [call for call in calls[place:told] if isinstance(call, Synced) and call.path == folder.parent]
    if not any(folder.name in call.held for call in named):
        found.append(f"the name {folder.name} is not on disk when it is told")
    return found


def needless(calls: list[Call], folder: Path, last: str = "") -> list[str]:
    """Syncs between the first of a written folder's and the word that could be left out and nobody would see it."""
    (renamed,) = [call for call in calls if isinstance(call, Renamed) and call.new == folder]
    own = [call for call in calls if isinstance(call, Synced) and renamed.old in (call.path, call.path.parent)]
    behind = calls[calls.index(renamed) : calls.index(Told())]
    own += [call for call in behind if isinstance(call, Synced) and call.path == folder.parent]
    return [str(call.path) for call in own if not wrong([one for one in calls if one is not call], folder, last)]


def keep(held: Held, task: Task, calls: list[Call]) -> None:
    """Have the keeper of a worker write it."""
    keeper = Keeper(lambda _: calls.append(Told()), most_bytes=1)
    keeper.put(held, task)
    keeper.close()
    keeper.run()


def test_a_checkpoint_of_a_joint_job_is_on_disk_before_it_is_told(tmp_path: Path, calls: list[Call]) -> None:
    root = tmp_path / CHECKPOINTS
    root.mkdir()
    keep(Held("a", "t", tmp_path, epoch=1), Snapshot(TENSORS, {"history": {}}, PROGRESS), calls)
    lease = root / "lease-00000001"
    folder = lease / "step-00000003"
    assert {file.name for file in folder.iterdir()} == {
        checkpoints.TENSORS,
        checkpoints.PROGRESS,
        checkpoints.STATE,
        checkpoints.MANIFEST,
    }
    assert wrong(calls, folder, checkpoints.MANIFEST) == []
    assert needless(calls, folder, checkpoints.MANIFEST) == []
    # The lease's own folder, before anything is written into it.
    assert calls[0] == Synced(root, [lease.name])


def test_a_checkpoint_of_a_job_that_trains_alone_is_on_disk_before_it_is_told(
    tmp_path: Path, calls: list[Call]
) -> None:
    order = SoloOrder(tmp_path, "tiny", Settings(), tmp_path, tmp_path, {})
    with Writer(order, Hooks(lambda _: calls.append(Told()))) as writer:
        writer.put(TENSORS, {"history": {}}, PROGRESS)
        writer.wait()
    folder = tmp_path / "step-00000003"
    assert wrong(calls, folder, checkpoints.MANIFEST) == []
    assert needless(calls, folder, checkpoints.MANIFEST) == []


def test_an_adapter_is_on_disk_before_its_job_is_said_to_be_done(tmp_path: Path, calls: list[Call]) -> None:
    (tmp_path / CHECKPOINTS).mkdir()
    keep(Held("a", "t", tmp_path, epoch=1), Result({"a": torch.ones(4)}, {}, {"rows": 8}, PROGRESS), calls)
    folder = tmp_path / RESULT
    assert len(list(folder.iterdir())) == 3
    assert wrong(calls, folder) == []
    assert needless(calls, folder) == []


def test_a_result_of_a_job_that_trains_alone_is_on_disk_before_it_is_said(tmp_path: Path, calls: list[Call]) -> None:
    def save(into: Path) -> None:
        (into / "model.safetensors").write_bytes(b"weights")

    publish_result(tmp_path, save, {"rows": 8})
    calls.append(Told())
    folder = tmp_path / RESULT
    assert {file.name for file in folder.iterdir()} == {"model.safetensors", RESULT_MANIFEST}
    assert wrong(calls, folder) == []
    assert needless(calls, folder) == []
