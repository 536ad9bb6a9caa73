"""Full models and encoders from folders and from the hub: fetched, checked and kept as versions like any other.

Invariant: an import is a version or nothing.  Its files become blobs one by one, which the sweep takes when no
version comes to name them; so an import that was cut off is begun again, and nothing of it is met meanwhile.
"""

import asyncio
import hashlib
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

from services.chassis.errors import Failure, Reason
from services.chassis.files import disk_full_named, require_space
from services.registry.callers import Caller
from services.registry.import_sources import Opened, Sources
from services.registry.inspection import encoder, full
from services.registry.inspection.folder import CONFIG, is_weights
from services.registry.manifests import File, Kind, Lineage, Manifest
from services.registry.models import require_name
from services.registry.publishing import Publishing
from services.registry.replay import Replay
from services.registry.uploads import Uploads
from services.registry.verification import Verification
from services.registry.version_view import Version
from services.registry.versions import Versions
from services.registry.works import Progress, Works

# What a version of each kind holds of a source.
_TAKEN = {Kind.FULL: full.belongs, Kind.ENCODER: encoder.belongs}
_BLOCK_BYTES = 4 * 1024 * 1024
_MIB = 1024 * 1024


class Importing:
    """The verb; ``folder`` is where files grow before they are blobs, on the same disk."""

    def __init__(
        self,
        sources: Sources,
        uploads: Uploads,
        verification: Verification,
        publishing: Publishing,
        versions: Versions,
        works: Works,
        folder: Path,
    ) -> None:
        self._sources = sources
        self._uploads = uploads
        self._verification = verification
        self._publishing = publishing
        self._versions = versions
        self._works = works
        self._folder = folder
        self._under_way: set[Path] = set()

    async def run(self, caller: Caller, uri: str, model: str, replay: Replay) -> Version:
        """The version that holds what ``uri`` names now.  The same request again is the same version.

        Whoever asks for what is being imported already joins that.  Raises MODEL_SOURCE_INVALID, WEIGHTS_REFUSED,
        BLOB_TOO_LARGE, DISK_FULL, FIELD_INVALID, REQUEST_ID_REUSED, and WORK_UNDER_WAY while it goes on.
        """
        require_name(model)
        self._sources.require_known(uri)
        known = await self._versions.replayed(caller, replay)
        if known is not None:
            return known
        begin = partial(self._import, caller, uri, model, replay)
        made = await self._works.join(replay.key, f"The import of {uri}", begin, work=f"{uri} {model}")
        return await self._versions.answered(caller, made, replay)

    async def _import(self, caller: Caller, uri: str, model: str, replay: Replay, progress: Progress) -> Version:
        # One place for this work alone, here: what the hub sent of a file before a kill is gone on from.
        name = hashlib.sha256(f"{caller.tenant}\0{uri}\0{model}".encode()).hexdigest()[:32]
        scratch = self._folder / name
        self._under_way.add(scratch)
        try:
            with disk_full_named("the blobs"):
                await asyncio.to_thread(lambda: scratch.mkdir(parents=True, exist_ok=True))
            progress.say("its files are listed")
            async with self._sources.opened(uri, scratch) as source:
                kind, files = await self._taken(caller, source, scratch, progress)
                lineage = Lineage(base_uri=source.found.uri)
        finally:
            self._under_way.discard(scratch)
        draft = Manifest(caller.tenant, model, kind, "", "", "", files, lineage)
        progress.say("its files are checked")
        version = await self._publishing.publish(caller, draft, replay)
        await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)
        return version

    async def _taken(
        self, caller: Caller, source: Opened, scratch: Path, progress: Progress
    ) -> tuple[Kind, tuple[File, ...]]:
        """What the source is, and of its files those that a version of that kind takes, each a blob now."""
        sizes = {**source.found.sizes, **source.found.beside}
        source.found.require_weights()
        for name, size_bytes in source.found.sizes.items():
            self._uploads.require_size(name, size_bytes)
        whole = sum(sizes.values())
        await asyncio.to_thread(require_space, self._folder, whole, "the blobs")
        kind = await self._glanced(source)
        files, done = [], 0
        told: dict[str, Path] = {}
        async for name, file in source.fetched():
            if kind is None and is_weights(name):
                kind = await self._verification.kind_of(told)
            staged, before = scratch / f"{name.replace('/', '_')}.staged", done

            def copied(length: int, before: int = before) -> None:
                progress.say(f"{(before + length) // _MIB} of {whole // _MIB} MiB are here")

            sha256, size_bytes = await asyncio.to_thread(_copied, file, staged, sizes[name], copied)
            done += size_bytes
            if name == CONFIG or name in source.found.beside:
                told[name] = staged.with_suffix(".told")
                await asyncio.to_thread(shutil.copyfile, staged, told[name])
            if name not in source.found.beside:
                await self._uploads.take(caller, File(name, sha256, size_bytes), staged)
                files.append(File(name, sha256, size_bytes))
        kind = kind or await self._verification.kind_of(told)
        return kind, tuple(file for file in files if _TAKEN[kind](file.filename))

    async def _glanced(self, source: Opened) -> Kind | None:
        """What a source is whose files can be looked at, once these are sound; None for one that is elsewhere."""
        present = source.present()
        if not present:
            return None
        beside = source.found.beside
        told = {name: path for name, path in present.items() if name == CONFIG or name in beside}
        kind = await self._verification.kind_of(told)
        taken = {name: path for name, path in present.items() if name not in beside and _TAKEN[kind](name)}
        await self._verification.glance(kind, taken)
        return kind

    def discard_remains(self, older_than: float) -> None:
        """Remove what imports left that nobody took up since ``older_than`` (Unix seconds).  Blocks."""
        for scratch in self._folder.glob("*"):
            # An import that ends now removes its own.
            with suppress(FileNotFoundError):
                if scratch.stat().st_mtime < older_than and scratch not in self._under_way:
                    shutil.rmtree(scratch, ignore_errors=True)


def _copied(source: BinaryIO, target: Path, size_bytes: int, copied: Callable[[int], None]) -> tuple[str, int]:
    """Copy, durably; the digest and the length of what was copied.  Raises WEIGHTS_REFUSED when it grows meanwhile."""
    digest, length = hashlib.sha256(), 0
    with disk_full_named("the blobs"), target.open("wb") as copy:
        while block := source.read(_BLOCK_BYTES):
            length += len(block)
            if length > size_bytes:
                raise Failure(Reason.WEIGHTS_REFUSED, problem=f"{target.stem} changed while it was read")
            digest.update(block)
            copy.write(block)
            copied(length)
        copy.flush()
        os.fsync(copy.fileno())
    return digest.hexdigest(), length
