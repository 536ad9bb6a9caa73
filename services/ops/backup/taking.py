"""Takes a backup of a data folder whose services go on serving and writing.

Invariants: of each database the backup has one committed state, of the time between its
beginning and its end; every blob that such a state names is in it.  (A blob is stored before
the row that names it, and stays for hours after the last one: those that there are before the
databases are taken, and those that came meanwhile, are all that they can name.)
"""

import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

from services.chassis.files import sync_folder, write_atomically
from services.ops.backup.contents import BLOBS, DATABASES, FILES, MANIFEST, MARK, BackupError, Held, Manifest, digest_of

_PRIVATE = 0o700


def take(data: Path, backup: Path, told: Callable[[str], None] = lambda _: None) -> Manifest:
    """Back the data folder up into a new or empty folder; ``told`` hears each part.  Blocks.  Raises BackupError."""
    if not any((data / name).exists() for name in DATABASES):
        raise BackupError(f"{data} holds no database of a suite. Say which folder it is: --data-dir")
    if backup.exists() and (not backup.is_dir() or any(backup.iterdir())):
        raise BackupError(f"{backup} is there and not empty. Name a folder that is new.")
    taken_at = time.time()
    backup.mkdir(parents=True, exist_ok=True, mode=_PRIVATE)
    write_atomically(backup / MARK, b"")
    held: dict[str, Held] = {}
    for name in BLOBS:
        _blobs(data, backup, name, held)
    for name in DATABASES:
        if (data / name).exists():
            told(name)
            _database(data / name, backup / name)
            held[name] = _held(data, backup, name)
    for name in BLOBS:
        told(name)
        _blobs(data, backup, name, held)
    for name in FILES:
        told(name)
        _files(data, backup, name, held)
    _sync(backup)
    manifest = Manifest(taken_at, tuple(held[name] for name in sorted(held)))
    write_atomically(backup / MANIFEST, manifest.written())
    return manifest


def _database(database: Path, copy: Path) -> None:
    """One committed state; writers go on meanwhile, for in WAL mode no reader stops them."""
    copy.parent.mkdir(parents=True, exist_ok=True, mode=_PRIVATE)
    with (
        closing(sqlite3.connect(f"file:{database}?mode=rw", uri=True, timeout=60)) as source,
        closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)
        # One file, without a journal beside it.
        target.execute("PRAGMA journal_mode=DELETE")
        problem = target.execute("PRAGMA quick_check(1)").fetchone()[0]
        if problem != "ok":
            raise BackupError(f"{database} is damaged ({problem}), so no backup of it was taken. Restore an older one.")


def _blobs(data: Path, backup: Path, name: str, held: dict[str, Held]) -> None:
    for path in _below(data / name):
        relative = path.relative_to(data).as_posix()
        if relative in held or not _copied(path, backup / relative):
            continue
        held[relative] = _held(data, backup, relative)
        if held[relative].sha256 != path.name:
            raise BackupError(f"{path} does not hold what its name says, so no backup of it was taken.")


def _files(data: Path, backup: Path, name: str, held: dict[str, Held]) -> None:
    for path in [data / name] if (data / name).is_file() else _below(data / name):
        relative = path.relative_to(data).as_posix()
        # What has a dot before it is still being written.
        if not path.name.startswith(".") and _copied(path, backup / relative):
            held[relative] = _held(data, backup, relative)


def _below(folder: Path) -> Iterator[Path]:
    for root, _, names in os.walk(folder):
        yield from (path for name in sorted(names) if (path := Path(root, name)).is_file() and not path.is_symlink())


def _copied(path: Path, copy: Path) -> bool:
    """False where it went meanwhile."""
    copy.parent.mkdir(parents=True, exist_ok=True, mode=_PRIVATE)
    with suppress(FileNotFoundError):
        shutil.copyfile(path, copy)
        return True
    copy.unlink(missing_ok=True)
    return False


def _held(data: Path, backup: Path, name: str) -> Held:
    copy = backup / name
    copy.chmod(0o600)
    try:
        mode = (data / name).stat().st_mode & 0o777
    except FileNotFoundError:
        mode = 0o600
    return Held(name, mode, copy.stat().st_size, digest_of(copy))


def _sync(folder: Path) -> None:
    """Everything below is durable before the manifest names it."""
    for root, _, names in os.walk(folder, topdown=False):
        for name in names:
            descriptor = os.open(Path(root, name), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_folder(Path(root))
