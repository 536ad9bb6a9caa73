"""Verified adapters in local folders, one a version; fetched from the registry when asked for.

A version's id is the digest of its manifest, the manifest names the digests of its
files, and both are checked here: what the folder holds is what the id says.  Invariant:
a folder under ``adapters/`` exists only whole (it gets its name by one rename, after the
limited child found it fit, and loses it by one), and its files never change; a folder that an earlier
process left is hashed once before it is believed, and fetched anew when it is damaged.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from services.chassis.errors import Failure, Reason
from services.chassis.files import disk_full_named, publish, sync_tree, write_atomically
from services.chassis.streams import Chunk, committed_bytes, receive
from services.generator.manifests import Manifest, VersionFacts, read_manifest
from services.generator.plugin.identity import IDENTITY_FILE, Identity
from services.generator.residency import StoredAdapter, Tier
from services.generator.shelf import MANIFEST, Shelf, Shelved, local_facts, shelved, whole
from services.generator.tallies import Tallies
from services.generator.templates import MAX_TEMPLATE_BYTES, TEMPLATE_FILE
from services.generator.verification import CONFIG, WEIGHTS, BaseRules, Verdict, verify

__all__ = ["AdapterFiles", "Downloads", "Kept", "Manifest", "Served", "VersionFacts", "read_manifest"]

MAX_FILE_BYTES = 4 << 30
_DIGEST = re.compile("[0-9a-f]{64}")
_INCOMING, _PUBLISHING, _REMOVED = ".incoming", ".publishing", ".removed"


@dataclass(frozen=True, slots=True)
class Served:
    """What this deployment serves adapters over: the base's name, its digest and its chat template's."""

    base: str
    base_digest: str
    template_digest: str


@dataclass(frozen=True, slots=True)
class Kept:
    """What lies here of a version, fetched or half fetched; ``used_at`` in Unix seconds.

    ``stored`` is None while it is not whole.
    """

    version: str
    size_bytes: int
    used_at: float
    stored: StoredAdapter | None = None


class Downloads(Protocol):
    """The registry's bytes, under the service's own identity."""

    def as_service(self) -> AbstractAsyncContextManager[Any]:
        """Context in which ``download`` may read any version's files."""
        ...

    def download(self, sha256: str, offset: int) -> AsyncIterator[Chunk]:
        """A file's bytes from an offset."""
        ...


class AdapterFiles:
    """The folder of verified adapters.

    ``bases`` says what an adapter for the base with a digest must agree with, and raises BASE_MISMATCH when that
    base is not served here.
    """

    def __init__(
        self,
        folder: Path,
        downloads: Downloads,
        bases: Callable[[str], tuple[Served, BaseRules]],
        fetched: Callable[[], None] = lambda: None,
        shelf: Shelf | None = None,
        tallies: Tallies | None = None,
        limit_bytes: int = 1 << 62,
    ) -> None:
        self._folder = folder
        self._downloads = downloads
        self._bases = bases
        self._fetched = fetched
        self._tallies = tallies or Tallies()
        self.limit_bytes = limit_bytes
        self.shelf = shelf or Shelf()
        self._fetching: dict[str, asyncio.Task[StoredAdapter]] = {}
        self._in_hand: Counter[str] = Counter()
        self._listening: dict[str, list[Callable[[str], None]]] = {}

    async def obtain(self, facts: VersionFacts, ended: Callable[[str], None] = lambda _: None) -> StoredAdapter:
        """The version's folder, fetched and verified if need be; once, however many ask.

        A caller that goes away does not stop the fetch for the others.  ``ended`` hears, in turn, that
        ``load_fetch`` and ``load_verify`` ended, and ``load`` for what was before them.  Raises
        WEIGHTS_REFUSED, BASE_MISMATCH, TEMPLATE_MISMATCH, and what the registry fails with.
        """
        manifest = read_manifest(facts)
        self._require_servable(manifest)
        task = self._fetching.get(facts.version)
        if task is None:
            task = asyncio.create_task(self._obtain(facts.version, manifest), name=f"fetch {facts.version}")
            self._fetching[facts.version] = task
            task.add_done_callback(lambda _: self._fetching.pop(facts.version, None))
        listeners = self._listening.setdefault(facts.version, [])
        listeners.append(ended)
        try:
            return await asyncio.shield(task)
        finally:
            listeners.remove(ended)
            if not listeners:
                self._listening.pop(facts.version, None)

    @contextmanager
    def in_hand(self, version: str) -> Iterator[None]:
        """Inside the block the version's files stay, whoever needs their room."""
        self._in_hand[version] += 1
        try:
            yield
        finally:
            self._in_hand[version] -= 1
            self._in_hand += Counter()

    def begin(self) -> None:
        """Remove what an interrupted publication or removal left, list what is whole.  Blocks.

        Partial downloads stay and resume.
        """
        for ending in (_PUBLISHING, _REMOVED):
            for folder in self._folder.glob(f"*{ending}"):
                shutil.rmtree(folder)
        for folder in self._folder.glob("*"):
            if _DIGEST.fullmatch(folder.name):
                self.shelf.found(folder, f"sha256:{folder.name}")

    def used_at(self, version: str) -> float:
        """When a version that lies here was last used, in Unix seconds; 0 for one that does not."""
        held = self.shelf.get(version)
        return 0.0 if held is None else held.used_at

    def has_room(self, facts: VersionFacts) -> bool:
        """Whether a version lies here, or could without another's leaving.  Raises WEIGHTS_REFUSED."""
        if self.shelf.get(facts.version) is not None:
            return True
        wanted_bytes = sum(size_bytes for _, size_bytes in read_manifest(facts).files.values())
        return self.shelf.size_bytes + wanted_bytes <= self.limit_bytes

    async def kept_facts(self, version: str) -> VersionFacts | None:
        """The registry's word on a version as it was kept beside its weights; None when it does not lie here."""
        if self.shelf.get(version) is None:
            return None
        with suppress(OSError):
            return await asyncio.to_thread(local_facts, self._place(version), version)
        return None

    def kept(self) -> list[Kept]:
        """What lies here, the longest unused first.  Blocks."""
        by_version: dict[str, list[Path]] = {}
        for folder in self._folder.glob("*"):
            name = folder.name.removesuffix(_INCOMING)
            if _DIGEST.fullmatch(name):
                by_version.setdefault(f"sha256:{name}", []).append(folder)
        found = [_kept(version, folders, self.shelf.get(version)) for version, folders in by_version.items()]
        return sorted(found, key=lambda kept: kept.used_at)

    async def remove(self, version: str) -> bool:
        """Delete what lies here of a version; False, and nothing happens, while it is fetched or in somebody's hands.

        The names end in the caller's own step, so that whoever obtains the version from
        then on fetches it anew.  The caller knows that nobody uses it.
        """
        if version in self._fetching or version in self._in_hand:
            return False
        await self._discard(version, _incoming(self._place(version)))
        return True

    async def _discard(self, version: str, *others: Path) -> None:
        self.shelf.forget(version)
        removed = []
        for path in (self._place(version), *others):
            with suppress(FileNotFoundError):
                removed.append(path.rename(path.with_name(f"{path.name}.{uuid.uuid4().hex}{_REMOVED}")))
        for path in removed:
            await asyncio.to_thread(shutil.rmtree, path)

    def _require_servable(self, manifest: Manifest) -> None:
        if manifest.kind != "LORA":
            raise Failure(Reason.WEIGHTS_REFUSED, problem="only LoRA adapters are served beside the base")
        served, _ = self._bases(manifest.base_digest)
        if not self._own_template(manifest) and manifest.template_digest not in ("", served.template_digest):
            raise Failure(Reason.TEMPLATE_MISMATCH, template=manifest.template_digest, known=served.template_digest)
        for name in (WEIGHTS, CONFIG):
            if name not in manifest.files:
                raise Failure(Reason.WEIGHTS_REFUSED, problem=f"the version has no {name}")
            if manifest.files[name][1] > MAX_FILE_BYTES:
                raise Failure(Reason.WEIGHTS_REFUSED, problem=f"{name} is larger than {MAX_FILE_BYTES} bytes")

    async def _obtain(self, version: str, manifest: Manifest) -> StoredAdapter:
        folder = self._place(version)
        proven = self.shelf.proven(version) and await asyncio.to_thread(folder.is_dir)
        if not proven and not await asyncio.to_thread(whole, folder, version):
            await self._discard(version)
            incoming = _incoming(folder)
            self._tell(version, "load")
            await self._fetch(incoming, manifest)
            self._tell(version, "load_fetch")
            verdict = await verify(incoming, self._bases(manifest.base_digest)[1])
            with disk_full_named("the adapters"):
                await asyncio.to_thread(_publish, incoming, folder, version, manifest, verdict)
            self._tell(version, "load_verify")
            self._fetched()
            stored = await self._shelve(version, manifest)
            self._tallies.loaded(Tier.FILE, stored)
            return stored
        # The time of a folder is that of its last use.
        await asyncio.to_thread(_used, folder, manifest)
        return await self._shelve(version, manifest)

    async def _shelve(self, version: str, manifest: Manifest) -> StoredAdapter:
        template_digest = self._own_template(manifest)
        put = await asyncio.to_thread(shelved, self._place(version), version, manifest, template_digest)
        self.shelf.put(put)
        return put.stored

    def _own_template(self, manifest: Manifest) -> str:
        """The digest of the template that a version brings and its base does not have; empty without one."""
        sha256, size_bytes = manifest.files.get(TEMPLATE_FILE, ("", 0))
        named = manifest.template_digest
        if f"sha256:{sha256}" != named or size_bytes > MAX_TEMPLATE_BYTES:
            return ""
        served, _ = self._bases(manifest.base_digest)
        return "" if named == served.template_digest else named

    def _tell(self, version: str, stage: str) -> None:
        for ended in self._listening.get(version, ()):
            ended(stage)

    def _place(self, version: str) -> Path:
        return self._folder / version.partition(":")[2]

    async def _fetch(self, incoming: Path, manifest: Manifest) -> None:
        with disk_full_named("the adapters"):
            await asyncio.to_thread(lambda: incoming.mkdir(parents=True, exist_ok=True))
        async with self._downloads.as_service():
            for name in (CONFIG, WEIGHTS, *([TEMPLATE_FILE] if self._own_template(manifest) else [])):
                sha256, size_bytes = manifest.files[name]
                target = incoming / name
                if target.exists():
                    continue
                offset = committed_bytes(target)
                pieces = self._downloads.download(sha256, offset)
                await receive(pieces, target, size_bytes, sha256, offset)


def _incoming(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}{_INCOMING}")


def _kept(version: str, folders: Sequence[Path], shelved: Shelved | None) -> Kept:
    size_bytes = sum(file.stat().st_size for folder in folders for file in folder.glob("*"))
    used_at = max(folder.stat().st_mtime for folder in folders)
    return Kept(version, size_bytes, used_at, shelved.stored if shelved else None)


def _used(folder: Path, manifest: Manifest) -> None:
    """Note that a folder is used now; one of an earlier release is given the manifest that it lacks."""
    if not (folder / MANIFEST).exists():
        write_atomically(folder / MANIFEST, manifest.text.encode())
    os.utime(folder)


def _publish(incoming: Path, folder: Path, version: str, manifest: Manifest, verdict: Verdict) -> None:
    """Give a verified adapter its name, durably; the configuration is ours, the weights are as fetched."""
    staged = folder.with_name(f"{folder.name}{_PUBLISHING}")
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir()
    (incoming / WEIGHTS).rename(staged / WEIGHTS)
    with suppress(FileNotFoundError):
        (incoming / TEMPLATE_FILE).rename(staged / TEMPLATE_FILE)
    write_atomically(staged / CONFIG, json.dumps(verdict.config, sort_keys=True).encode())
    write_atomically(staged / MANIFEST, manifest.text.encode())
    identity = Identity(version, f"sha256:{manifest.files[WEIGHTS][0]}", verdict.rank)
    write_atomically(staged / IDENTITY_FILE, identity.text().encode())
    sync_tree(staged)
    publish(staged, folder)
    shutil.rmtree(incoming, ignore_errors=True)
