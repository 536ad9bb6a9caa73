"""Makes a data folder out of a backup.

Invariants: what is restored was checked byte for byte first; the data folder is there whole or
not at all; and nothing that is there already is touched.
"""

import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from services.chassis.files import sync_folder
from services.ops.backup.contents import BackupError, Manifest, digest_of, read

_CATALOG = "retriever/retriever.db"


def restore(backup: Path, data: Path) -> Manifest:
    """Restore into a new or empty folder.  Blocks.  Raises BackupError, and then the folder is as it was."""
    manifest = read(backup)
    if data.exists() and (not data.is_dir() or any(data.iterdir())):
        raise BackupError(f"{data} is there and not empty. Move it away, or name another folder: --data-dir")
    data.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=f".{data.name}.restoring-", dir=data.parent))
    try:
        for held in manifest.files:
            _checked(backup / held.path, making / held.path, held.size_bytes, held.sha256)
            (making / held.path).chmod(held.mode)
        _renew(making / _CATALOG)
        for root, _, _ in os.walk(making, topdown=False):
            sync_folder(Path(root))
        if data.exists():
            data.rmdir()
        making.rename(data)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise
    sync_folder(data.parent)
    return manifest


def _checked(held: Path, copy: Path, size_bytes: int, sha256: str) -> None:
    """Copy, and look at the copy: what was read twice may differ."""
    copy.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        shutil.copyfile(held, copy)
    except FileNotFoundError:
        raise BackupError(f"{held} is missing from the backup, so nothing was restored. Restore another.") from None
    if copy.stat().st_size != size_bytes or digest_of(copy) != sha256:
        raise BackupError(f"{held} is damaged, so nothing was restored. Restore another backup.")
    with copy.open("rb") as file:
        os.fsync(file.fileno())


def _renew(catalog: Path) -> None:
    """Another id for the catalog: whatever index there is belongs to the former one, and is built anew for this one.

    Without this, a restored retriever and the one it was taken from would write to one index of a Weaviate server.
    """
    if not catalog.exists():
        return
    with closing(sqlite3.connect(catalog)) as opened:
        if opened.execute("SELECT 1 FROM sqlite_master WHERE name = 'facts'").fetchone():
            opened.execute("DELETE FROM facts WHERE name = 'catalog_id'")
            opened.commit()
        opened.execute("PRAGMA journal_mode=WAL")
