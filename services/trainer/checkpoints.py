"""Checkpoints that a kill cannot spoil.

A checkpoint is a folder: tensors as safetensors, progress and a manifest as JSON.  It is
written under a temporary name, each file is synced, the manifest comes last, the
folder is renamed, its parent is synced.  Invariant: a folder named `step-N` whose manifest
verifies holds everything that step N + 1 depends on; whatever else is found is ignored.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from services.chassis.files import disk_full_named, publish, require_space, sync_folder
from services.trainer.job import Progress

if TYPE_CHECKING:
    from torch import Tensor

TENSORS = "state.safetensors"
PROGRESS = "progress.json"
MANIFEST = "manifest.json"
KEPT = 2
_PREFIX = "step-"
_TEMPORARY = "tmp-"

# Called with the name of every point at which a kill may strike; tests kill there.
WritePoint = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint that verifies.  `digest` (sha256:…) is of its tensors."""

    folder: Path
    progress: Progress
    digest: str
    size_bytes: int
    create_time: datetime


def _no_kill(_: str) -> None:
    return None


def write(
    parent: Path,
    tensors: "Mapping[str, Tensor]",
    progress: Progress,
    libraries: Mapping[str, str],
    *,
    at: WritePoint = _no_kill,
) -> Checkpoint:
    """Write a checkpoint durably, then remove all but the newest two.  Raises DISK_FULL."""
    from safetensors.torch import save_file

    # What is left must do for the database: a job that cannot tell of its checkpoint has none.
    require_space(parent, sum(tensor.nbytes for tensor in tensors.values()), "the training jobs")
    temporary = parent / f"{_TEMPORARY}{uuid4().hex}"
    with disk_full_named(parent):
        temporary.mkdir()
        at("folder made")
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, str(temporary / TENSORS))
        at("tensors written")
        _sync(temporary / TENSORS)
        at("tensors synced")
        _write_json(temporary / PROGRESS, asdict(progress))
        at("progress written")
        manifest = {
            "step": progress.step,
            "files": {name: _described(temporary / name) for name in (TENSORS, PROGRESS)},
            "libraries": dict(libraries),
            "create_time": datetime.now(UTC).isoformat(),
        }
        _write_json(temporary / MANIFEST, manifest)
        at("manifest written")
        sync_folder(temporary)
        at("folder synced")
        target = parent / f"{_PREFIX}{progress.step:08d}"
        if target.exists():
            # Left by a run that was killed before it said so: the same step holds the same bits.
            _discard(target)
        publish(temporary, target)
        at("folder renamed")
    _remove_old(parent, at)
    written = verified(target)
    assert written is not None, "a checkpoint that was just written does not verify"
    return written


def newest(parent: Path) -> Checkpoint | None:
    """Return the newest checkpoint whose manifest verifies, or None."""
    return next(iter(kept(parent)), None)


def kept(parent: Path) -> list[Checkpoint]:
    """Return the checkpoints that verify, newest first."""
    return [checkpoint for folder in reversed(_folders(parent)) if (checkpoint := verified(folder)) is not None]


def _folders(parent: Path) -> list[Path]:
    """What is named as a checkpoint, oldest first; nothing where the job's folder is gone, or goes as we look."""
    try:
        names = os.listdir(parent)
    except FileNotFoundError:
        return []
    return [parent / name for name in sorted(names) if name.startswith(_PREFIX)]


def verified(folder: Path) -> Checkpoint | None:
    """Return the checkpoint in `folder`, or None when a file is missing, short or changed."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        files: dict[str, dict[str, object]] = manifest["files"]
        if any(_described(folder / name) != files[name] for name in (TENSORS, PROGRESS)):
            return None
        progress = Progress(**json.loads((folder / PROGRESS).read_text()))
        return Checkpoint(
            folder=folder,
            progress=progress,
            digest=f"sha256:{files[TENSORS]['sha256']}",
            size_bytes=sum(file.stat().st_size for file in folder.iterdir()),
            create_time=datetime.fromisoformat(manifest["create_time"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def load_tensors(checkpoint: Checkpoint) -> "dict[str, Tensor]":
    """Read a checkpoint's tensors."""
    from safetensors.torch import load_file

    loaded: dict[str, Tensor] = load_file(str(checkpoint.folder / TENSORS))
    return loaded


def sweep(parent: Path) -> None:
    """Remove what killed writers left; only the one process that writes here may call it."""
    for folder in parent.glob(f"{_TEMPORARY}*"):
        shutil.rmtree(folder, ignore_errors=True)


def _remove_old(parent: Path, at: WritePoint) -> None:
    # Counted among those that verify: a spoilt newer folder must not push a good one out.
    good = {checkpoint.folder for checkpoint in kept(parent)[:KEPT]}
    for folder in _folders(parent):
        if folder not in good:
            _discard(folder, at)
    at("old removed")


def _discard(folder: Path, at: WritePoint = _no_kill) -> None:
    # Under a temporary name first, so that a half-removed folder is never taken for a checkpoint.
    doomed = folder.with_name(f"{_TEMPORARY}{uuid4().hex}")
    os.replace(folder, doomed)
    at("old renamed")
    shutil.rmtree(doomed)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, sort_keys=True))
    _sync(path)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _described(path: Path) -> dict[str, object]:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return {"sha256": digest.hexdigest(), "size_bytes": path.stat().st_size}
