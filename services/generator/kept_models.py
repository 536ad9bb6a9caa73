"""The registry's word on full models, kept on this generator's own disk: their files lie in a cache that knows no tenant.

Invariants: what is kept of a version is the manifest that its id is the digest of, so whose it is stands in it; at most
``limit`` are kept, of those beyond the longest kept go; a disk that takes no more costs what was to be kept, and no call.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

from services.chassis.errors import Failure
from services.chassis.files import write_atomically
from services.generator.manifests import Manifest, VersionFacts, read_manifest

_LIMIT = 1024


class KeptModels:
    """Facts of full models by version, each in a file of its own."""

    def __init__(self, folder: Path, limit: int = _LIMIT) -> None:
        self._folder = folder
        self._limit = limit
        self._kept: OrderedDict[str, tuple[VersionFacts, Manifest]] = OrderedDict()

    def begin(self) -> None:
        """Take up what an earlier process kept.  Blocks; what cannot be read is left out."""
        for path in sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime):
            with suppress(OSError, ValueError, KeyError, TypeError, Failure):
                facts = VersionFacts(**json.loads(path.read_text("utf-8")))
                if path == self._place(facts.version):
                    self._kept[facts.version] = (facts, read_manifest(facts))

    def keep(self, facts: VersionFacts) -> None:
        """Keep the word on a full model.  Blocks."""
        if facts.version in self._kept:
            return
        self._kept[facts.version] = (facts, read_manifest(facts))
        with suppress(OSError, Failure):
            self._folder.mkdir(parents=True, exist_ok=True)
            text = json.dumps({"version": facts.version, "manifest": facts.manifest})
            write_atomically(self._place(facts.version), text.encode())
        while len(self._kept) > self._limit:
            self.forget(next(iter(self._kept)))

    def forget(self, version: str) -> None:
        """Keep nothing of a version any more.  Blocks."""
        self._kept.pop(version, None)
        with suppress(OSError):
            self._place(version).unlink(missing_ok=True)

    def versions(self) -> list[str]:
        """Everything that is kept."""
        return list(self._kept)

    def facts(self, version: str) -> VersionFacts | None:
        """What was kept of a version, or None."""
        kept = self._kept.get(version)
        return None if kept is None else kept[0]

    def of_folder(self, tenant: str, digest: str) -> str:
        """The tenant's version, the last kept, whose folder has a digest; empty when none is kept."""
        found = (
            version
            for version, (_, manifest) in reversed(self._kept.items())
            if (manifest.tenant, manifest.base_digest) == (tenant, digest)
        )
        return next(found, "")

    def _place(self, version: str) -> Path:
        return self._folder / f"{version.partition(':')[2]}.json"
