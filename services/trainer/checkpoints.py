"""Checkpoints that a kill cannot spoil.

A checkpoint is a folder: tensors as safetensors, progress, state and a manifest as JSON.  It is
written under a temporary name, each file is synced, the manifest comes last, the
folder is renamed, its parent is synced.  Invariant: a folder named `step-N` whose manifest
verifies holds everything that step N + 1 depends on; whatever else is found is ignored.

Each lease of a job writes into a folder of its own, `lease-EPOCH`: a process whose lease went to another can neither
overwrite nor remove what that one has written, whatever it still does.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from services.chassis.errors import Failure, Reason
from services.chassis.files import disk_full_named, publish, require_space, sync_folder
from services.trainer.job import Progress
from services.trainer.tensor_files import system_errors

if TYPE_CHECKING:
    from torch import Tensor

TENSORS = "state.safetensors"
PROGRESS = "progress.json"
STATE = "state.json"
MANIFEST = "manifest.json"
KEPT = 2
_PREFIX = "step-"
_LEASE = "lease-"
_TEMPORARY = "tmp-"
# How often it is looked again for a checkpoint while newer ones push out those that were found.
_TRIES = 5

# What the system says of itself, or of a share, and not of a file that it was to read.
_PASSING = frozenset(
    {errno.EAGAIN, errno.EINTR, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT}
)

# What the files mean.  1: tensors by the names that PEFT gives them, no state.  2: a state beside them.  3: the state
# says how a version is made of the tensors (`exports`).  4: and what references of judged rows are of (`mismatching`).  A
# release that reads one reads those before it.
FORMAT = 4

# Called with the name of every point at which a kill may strike; tests kill there.
WritePoint = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint that verifies.  `digest` (sha256:…) is of its tensors; `format` says what they are (FORMAT)."""

    folder: Path
    progress: Progress
    digest: str
    size_bytes: int
    create_time: datetime
    format: int = FORMAT


class LeaseLost(Exception):
    """The job belongs to another process by now: this one must stop, and leave what it has not written."""


def lease_folder(root: Path, epoch: int) -> Path:
    """Make and return the folder that the holder of lease `epoch` writes into.  Raises LeaseLost for a later lease's."""
    if (last := max(_epochs(root), default=0)) > epoch:
        raise LeaseLost(f"lease {epoch} of the job ended: lease {last} writes")
    folder = root / f"{_LEASE}{epoch:08d}"
    folder.mkdir(parents=True, exist_ok=True)
    sync_folder(root)
    return folder


def _no_kill(_: str) -> None:
    return None


def write(
    parent: Path,
    tensors: "Mapping[str, Tensor]",
    progress: Progress,
    libraries: Mapping[str, str],
    *,
    state: Mapping[str, object] | None = None,
    keep_before: int = 0,
    at: WritePoint = _no_kill,
) -> Checkpoint:
    """Write a checkpoint durably, then remove all but the newest two, and the newest from before step `keep_before`.

    Raises DISK_FULL, LeaseLost, and FileNotFoundError when the job's folder is removed meanwhile.

    `parent` is a job's checkpoint folder or that of one lease of it; `state` is JSON beside the tensors.
    """
    from safetensors.torch import save_file

    # What is left must do for the database: a job that cannot tell of its checkpoint has none.
    require_space(parent, sum(tensor.nbytes for tensor in tensors.values()), "the training jobs")
    temporary = parent / f"{_TEMPORARY}{uuid4().hex}"
    with disk_full_named(parent), system_errors():
        temporary.mkdir()
        at("folder made")
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, str(temporary / TENSORS))
        at("tensors written")
        _sync(temporary / TENSORS)
        at("tensors synced")
        _write_json(temporary / PROGRESS, asdict(progress))
        at("progress written")
        _write_json(temporary / STATE, dict(state or {}))
        at("state written")
        manifest = {
            "format": FORMAT,
            "step": progress.step,
            "files": {name: _described(temporary / name) for name in (TENSORS, PROGRESS, STATE)},
            "libraries": dict(libraries),
            "create_time": datetime.now(UTC).isoformat(),
        }
        _write_json(temporary / MANIFEST, manifest)
        at("manifest written")
        sync_folder(temporary)
        at("folder synced")
        _require_lease(parent)
        target = parent / f"{_PREFIX}{progress.step:08d}"
        if target.exists():
            # Left by a run that was killed before it said so: the same step holds the same bits.
            _discard(target)
        publish(temporary, target)
        at("folder renamed")
    kept_on = _remove_old(parent, keep_before, at)
    # Where a later lease has newer ones, it is not among them.
    written = kept_on.get(target) or verified(target)
    if not target.exists():
        raise FileNotFoundError(target)
    assert written is not None, "a checkpoint that was just written does not verify"
    return written


def newest(parent: Path) -> Checkpoint | None:
    """Return the newest checkpoint whose manifest verifies, or None.

    Raises CHECKPOINT_TOO_NEW where that is one of a later format: who went on from an earlier one, or began anew, would
    lose what was trained since, and then remove it; and, for the same reason, OSError where none can be read at present.
    """
    for folder in reversed(_folders(parent)):
        manifest = _intact(folder)
        if manifest is not None and _format(manifest) > FORMAT:
            raise Failure(Reason.CHECKPOINT_TOO_NEW, step=_step(folder), format=_format(manifest), known=FORMAT)
        if manifest is not None and (found := _read(manifest, folder)) is not None:
            return found
    return None


def kept(root: Path) -> list[Checkpoint]:
    """Return the checkpoints of a job that verify and can be read, newest first, whichever lease wrote them."""
    return list(_newest_first(root))


def _newest_first(root: Path) -> Iterator[Checkpoint]:
    """The same one by one: each is read whole, which is minutes of a large model's."""
    for folder in reversed(_folders(root)):
        if (checkpoint := verified(folder)) is not None:
            yield checkpoint


def link(root: Path, into: Path, step: int = 0) -> Checkpoint | None:
    """Give a kept checkpoint of a job, by its step or the newest, a second name in the folder `into` of the same disk.

    What is linked stays whatever the job does meanwhile, and takes no room beside it.  None where there is none.
    """
    into.mkdir(parents=True, exist_ok=True)
    for _ in range(_TRIES):
        before = _folders(root)
        for folder in reversed(before):
            if step and folder.name != f"{_PREFIX}{step:08d}":
                continue
            target = into / folder.name
            if _linked(folder, target) and (found := verified(target)) is not None:
                return found
            shutil.rmtree(target, ignore_errors=True)
        if _folders(root) == before:
            break
    return None


def _linked(folder: Path, target: Path) -> bool:
    """Whether all files of the folder were there to be linked; a newer checkpoint may have pushed it out."""
    target.mkdir()
    try:
        for name in os.listdir(folder):
            os.link(folder / name, target / name)
    except FileNotFoundError:
        return False
    return True


def load_state(checkpoint: Checkpoint) -> dict[str, Any]:
    """Read what was stored beside the tensors; empty for format 1, which had none."""
    path = checkpoint.folder / STATE
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def _folders(root: Path) -> list[Path]:
    """What is named as a checkpoint, oldest first: by lease, then by step.

    A later lease went on from all that was there, so what an earlier one still writes counts for less.
    """
    return [parent / name for parent in _parents(root) for name in sorted(_names(parent)) if name.startswith(_PREFIX)]


def _step(folder: Path) -> int:
    """Of which step the folder is named as a checkpoint."""
    return int(folder.name.removeprefix(_PREFIX))


def _parents(root: Path) -> list[Path]:
    """The folders that hold a job's checkpoints: its own, of an earlier release, and one for each lease, oldest first."""
    return [root, *(root / f"{_LEASE}{epoch:08d}" for epoch in sorted(_epochs(root)))]


def _names(folder: Path) -> list[str]:
    """What lies in `folder`; nothing where the job's folder is gone, or goes as we look."""
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _epochs(root: Path) -> list[int]:
    return [int(name.removeprefix(_LEASE)) for name in _names(root) if name.startswith(_LEASE)]


def _require_lease(parent: Path) -> None:
    if parent.name.startswith(_LEASE):
        lease_folder(parent.parent, int(parent.name.removeprefix(_LEASE)))


def verified(folder: Path) -> Checkpoint | None:
    """Return the checkpoint in `folder`, or None when a file is missing, short or changed, or the format a later one."""
    manifest = _intact(folder)
    return _read(manifest, folder) if manifest is not None and _format(manifest) <= FORMAT else None


def _intact(folder: Path) -> dict[str, Any] | None:
    """The manifest in `folder`, where all files are as it has them; None otherwise.  Every format has this much."""
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        if any(_described(folder / name) != described for name, described in manifest["files"].items()):
            return None
        _format(manifest)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        _require_spoilt(error)
        return None
    return manifest


def _require_spoilt(error: Exception) -> None:
    """Raise the error again unless it says that the files are not what they must be."""
    if isinstance(error, OSError) and error.errno in _PASSING:
        raise error


def _format(manifest: Mapping[str, Any]) -> int:
    return int(manifest.get("format", 1))


def _read(manifest: Mapping[str, Any], folder: Path) -> Checkpoint | None:
    """The checkpoint in `folder`, whose manifest was checked; None where that has not what it must have."""
    files = manifest["files"]
    if not {TENSORS, PROGRESS} <= files.keys():
        return None
    try:
        progress = Progress(**json.loads((folder / PROGRESS).read_text()))
        return Checkpoint(
            folder=folder,
            progress=progress,
            digest=f"sha256:{files[TENSORS]['sha256']}",
            size_bytes=sum(file.stat().st_size for file in folder.iterdir()),
            create_time=datetime.fromisoformat(manifest["create_time"]),
            format=_format(manifest),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        _require_spoilt(error)
        return None


def load_tensors(checkpoint: Checkpoint) -> "dict[str, Tensor]":
    """Read a checkpoint's tensors.  Raises OSError."""
    from safetensors.torch import load_file

    with system_errors():
        loaded: dict[str, Tensor] = load_file(str(checkpoint.folder / TENSORS))
    return loaded


def sweep(root: Path) -> None:
    """Remove what killed writers left in a job's checkpoint folder; only the holder of its newest lease may call it."""
    for parent in _parents(root):
        for name in _names(parent):
            if name.startswith(_TEMPORARY):
                shutil.rmtree(parent / name, ignore_errors=True)


def _remove_old(parent: Path, keep_before: int, at: WritePoint) -> dict[Path, Checkpoint]:
    """Remove all but the newest, and the newest from before step `keep_before`; return these."""
    _require_lease(parent)
    root = parent.parent if parent.name.startswith(_LEASE) else parent
    # Counted among those that verify: a spoilt newer folder must not push a good one out.
    good: dict[Path, Checkpoint] = {}
    for folder in reversed(_folders(root)):
        spared = _step(folder) < keep_before and all(_step(other) >= keep_before for other in good)
        if (len(good) < KEPT or spared) and (checkpoint := verified(folder)) is not None:
            good[folder] = checkpoint
    for folder in _folders(root):
        # Of a lease that came meanwhile nothing is ours to remove.
        if folder not in good and (folder.parent in (root, parent) or folder.parent.name < parent.name):
            _discard(folder, at)
    at("old removed")
    return good


def _discard(folder: Path, at: WritePoint = _no_kill) -> None:
    # Under a temporary name first, so that a half-removed folder is never taken for a checkpoint.
    doomed = folder.with_name(f"{_TEMPORARY}{uuid4().hex}")
    os.replace(folder, doomed)
    at("old renamed")
    # Of a job that was cancelled somebody else may be removing the same; what stays is swept with the next lease.
    shutil.rmtree(doomed, ignore_errors=True)


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
