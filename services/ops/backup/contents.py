"""What a backup holds, and the manifest that says so.

Invariant: the manifest is written last; a folder without it, or in which one byte differs from
what it says, is no backup, and nothing is restored from it.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

# Who names something is taken before what it names: jobs before versions, documents, files and versions before tenants.
DATABASES = (
    "trainer/trainer.db",
    "retriever/retriever.db",
    "registry/registry.db",
    "files/files.db",
    "access/access.db",
)
# Immutable, by content digest.
BLOBS = ("registry/blobs/sha256", "trainer/blobs/sha256", "files/blobs/sha256")
# Replaced whole or only added to.  Not here: logs, caches, uploads that nobody finished, and every index, which is
# built anew from its catalog.
FILES = (
    "keys",
    "access/hashing.key",
    "access/signing",
    "trainer/jobs",
    "trainer/reports",
    "trainer/publications",
    "gateway/receipts",
)
MANIFEST = "manifest.json"
# Stands in a backup from its beginning on.
MARK = "trivium-backup"
_FORMAT = 1
_PIECE_BYTES = 1024 * 1024


class BackupError(Exception):
    """It cannot be taken, or not be restored; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Held:
    """A file of a backup: its path below the data folder, its permissions, and what it holds."""

    path: str
    mode: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A backup.  ``taken_at`` is Unix time of its beginning: what was acknowledged before is in it."""

    taken_at: float
    files: tuple[Held, ...]

    @property
    def size_bytes(self) -> int:
        """Of all files together."""
        return sum(held.size_bytes for held in self.files)

    def written(self) -> bytes:
        """As JSON, with a digest of the whole."""
        files = [asdict(held) for held in self.files]
        return json.dumps(
            {"format": _FORMAT, "taken_at": self.taken_at, "files": files, "sha256": _sum(files)}
        ).encode()


def read(backup: Path) -> Manifest:
    """The manifest of a backup.  Raises BackupError for a folder that is none, is cut short, or has another one."""
    try:
        whole = json.loads((backup / MANIFEST).read_bytes())
        files = tuple(Held(**entry) for entry in whole["files"])
        if whole["format"] != _FORMAT or whole["sha256"] != _sum(whole["files"]):
            raise ValueError
        for held in files:
            parts = PurePosixPath(held.path).parts
            if not parts or ".." in parts or PurePosixPath(held.path).is_absolute():
                raise ValueError
    except FileNotFoundError:
        if (backup / MARK).exists():
            raise BackupError(
                f"{backup} was cut short: it has no {MANIFEST}, which is written last. Take another, or restore an older one."
            ) from None
        raise BackupError(f"{backup} is no backup: it has no {MANIFEST}.") from None
    except (ValueError, KeyError, TypeError):
        raise BackupError(
            f"{backup / MANIFEST} is damaged, so nothing in {backup} can be trusted. Restore another."
        ) from None
    return Manifest(whole["taken_at"], files)


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sum(files: object) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
