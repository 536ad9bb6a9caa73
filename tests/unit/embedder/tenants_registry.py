"""A registry in memory, as the embedder knows it: encoders of tenants by their real manifests and bytes."""

import hashlib
import json
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path

from services.chassis.errors import Failure, Reason
from services.chassis.model_cache import digest_of
from services.chassis.streams import Piece
from services.embedder.embedding import Asking
from services.embedder.own_versions import VersionFacts

CHUNK = 64 * 1024


class TenantsRegistry:
    """Implements ``own_versions.Registry`` for whoever is in ``asking``; it may be away, and counts what it is asked."""

    def __init__(self) -> None:
        self.away = False
        self.asked: Counter[str] = Counter()
        self.asking = Asking("nobody")
        self._blobs: dict[str, bytes] = {}
        # By tenant: model and number to version; what was deleted is known to be.
        self._numbers: dict[str, dict[str, VersionFacts]] = {}
        self._deleted: set[str] = set()

    def publish(self, tenant: str, model: str, folder: Path, *, kind: str = "ENCODER") -> tuple[str, str]:
        """A folder as the next version of a model; its version and its folder's digest."""
        files, digests = [], {}
        for path in sorted(path for path in folder.iterdir() if path.is_file()):
            content = path.read_bytes()
            sha256 = hashlib.sha256(content).hexdigest()
            self._blobs[sha256] = content
            digests[path.name] = sha256
            files.append({"filename": path.name, "sha256": sha256, "size_bytes": len(content)})
        digest = digest_of(digests)
        mine = self._numbers.setdefault(tenant, {})
        number = 1 + sum(name.startswith(f"{model}@") for name in mine)
        document = {"tenant": tenant, "model": model, "kind": kind, "base_digest": digest, "files": files, "n": number}
        manifest = json.dumps(document, sort_keys=True)
        version = f"sha256:{hashlib.sha256(manifest.encode()).hexdigest()}"
        mine[f"{model}@{number}"] = VersionFacts(version, number, manifest)
        return version, digest

    def delete(self, version: str) -> None:
        self._deleted.add(version)

    def _live(self) -> list[VersionFacts]:
        if self.away:
            raise Failure(Reason.PEER_UNAVAILABLE, service="registry")
        mine = self._numbers.get(self.asking.tenant, {}).values()
        return [facts for facts in reversed(mine) if facts.version not in self._deleted]

    async def meant(self, name: str) -> str:
        self.asked["meant"] += 1
        live = self._live()
        facts = self._numbers.get(self.asking.tenant, {}).get(name)
        if facts is None or facts not in live:
            fate = ": it is deleted" if facts is not None else ""
            raise Failure(Reason.VERSION_NOT_FOUND, name=name, fate=fate)
        return facts.version

    async def of_folder(self, digest: str) -> str:
        self.asked["of_folder"] += 1
        found = [it for it in self._live() if json.loads(it.manifest)["base_digest"] == digest]
        return found[0].version if found else ""

    async def facts(self, version: str) -> VersionFacts:
        self.asked["facts"] += 1
        live = self._live()
        for facts in self._numbers.get(self.asking.tenant, {}).values():
            if facts.version == version and facts not in live:
                raise Failure(Reason.VERSION_NOT_FOUND, name=version, fate=": it is deleted")
        for facts in live:
            if facts.version == version:
                return facts
        raise Failure(Reason.VERSION_NOT_FOUND, name=version, fate="")

    async def newest(self, most: int) -> list[str]:
        self.asked["newest"] += 1
        return [it.version for it in self._live() if json.loads(it.manifest)["kind"] == "ENCODER"][:most]

    async def names(self, most: int) -> list[str]:
        self.asked["names"] += 1
        found = [json.loads(it.manifest) for it in self._live()]
        return [f"{it['model']}@{it['n']}" for it in found if it["kind"] == "ENCODER"][:most]

    async def download(self, sha256: str, offset: int):
        self.asked["download"] += 1
        self._live()
        content = self._blobs[sha256]
        for at in range(offset, len(content), CHUNK):
            yield Piece(at, content[at : at + CHUNK])

    @asynccontextmanager
    async def as_service(self):
        yield
