"""Which verified adapters lie in local folders, as the generator remembers it without a look at the disk.

Each folder keeps the version's manifest beside the weights: a generator that is cut off from the registry knows from it
whose the version is.  Invariant: a folder that an earlier process left is in the list, but is believed only once its
weights were hashed again.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from services.chassis.errors import Failure
from services.generator.manifests import Manifest, VersionFacts, read_manifest
from services.generator.plugin.identity import Identity, IdentityMismatch
from services.generator.residency import StoredAdapter
from services.generator.verification import CONFIG, WEIGHTS

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Shelved:
    """A verified adapter and what its folder takes; ``used_at`` in Unix seconds."""

    stored: StoredAdapter
    size_bytes: int
    used_at: float


class Shelf:
    """The list, by version."""

    def __init__(self) -> None:
        self._held: dict[str, Shelved] = {}
        self._proven: set[str] = set()

    def get(self, version: str) -> Shelved | None:
        """What lies here of a version, if it is whole."""
        return self._held.get(version)

    def all(self) -> list[Shelved]:
        """Everything, the last used first."""
        return sorted(self._held.values(), key=lambda shelved: -shelved.used_at)

    @property
    def size_bytes(self) -> int:
        """What all of it takes."""
        return sum(shelved.size_bytes for shelved in self._held.values())

    def proven(self, version: str) -> bool:
        """Whether its weights were hashed since the process started."""
        return version in self._proven

    def put(self, shelved: Shelved) -> None:
        """It lies here, and its weights are what they should be."""
        self._held[shelved.stored.version] = shelved
        self._proven.add(shelved.stored.version)

    def distrust(self, version: str) -> None:
        """Hash its weights again before it is used again."""
        self._proven.discard(version)

    def forget(self, version: str) -> None:
        """It does not lie here any more."""
        self._held.pop(version, None)
        self._proven.discard(version)

    def found(self, folder: Path, version: str) -> None:
        """Take up what an earlier process left; nothing when its manifest is missing or another's.  Blocks."""
        with suppress(OSError, ValueError, KeyError, TypeError, Failure):
            manifest = read_manifest(local_facts(folder, version))
            self._held[version] = shelved(folder, version, manifest)


def local_facts(folder: Path, version: str) -> VersionFacts:
    """What was kept of the registry's word.  Blocks; raises OSError."""
    return VersionFacts(version, (folder / MANIFEST).read_text("utf-8"))


def shelved(folder: Path, version: str, manifest: Manifest, template_digest: str = "") -> Shelved:
    """A whole folder as it lies there; ``template_digest`` as in StoredAdapter.  Blocks; raises OSError, ValueError."""
    identity = Identity.read(folder)
    size_bytes = manifest.files[WEIGHTS][1]
    stored = StoredAdapter(version, manifest.tenant, manifest.model, folder, identity.rank, size_bytes, template_digest)
    folder_bytes = sum(file.stat().st_size for file in folder.glob("*"))
    return Shelved(stored, folder_bytes, folder.stat().st_mtime)


def whole(folder: Path, version: str) -> bool:
    """Whether a folder holds what its name says, by a hash of its weights.  Blocks."""
    try:
        json.loads((folder / CONFIG).read_text("utf-8"))
        return Identity.proven(folder).version == version
    except (OSError, ValueError, TypeError, IdentityMismatch):
        return False
