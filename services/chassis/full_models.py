"""Full models out of the registry: a version's files as a local folder that transformers and engines read.

The folder lies in the model cache under its own digest, the same that ``models.resolve``
gives the same files by ``file:``.  Invariants: a folder has its name only when every file
in it hashed to what the manifest says and is on disk; one process fetches it while the
others wait; and a folder that somebody uses (:meth:`FullModels.using`, in any process) is
never cleaned up.  Who may have a model is decided where its manifest comes from: the cache
knows no tenant.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from services.chassis.errors import Failure, Reason
from services.chassis.files import RESERVE_BYTES, disk_full_named, publish, require_space, sync_folder
from services.chassis.model_cache import digest_of
from services.chassis.models import ResolvedModel, kind_of
from services.chassis.streams import Chunk, committed_bytes, receive

# A file's bytes (64 hexadecimal digits of SHA-256) from an offset.
Download = Callable[[str, int], AsyncIterable[Chunk]]

_FILENAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")
_SHA256 = re.compile(r"^[0-9a-f]{64}$")
_FOLDER = re.compile(r"^[0-9a-f]{64}$")
_INCOMING, _REMOVED, _LOCK = ".incoming", ".removed", ".lock"
# Another process fetches the same model: how often it is looked whether it has finished.
_LOOK_AGAIN_SECONDS = 0.2
# What an interrupted fetch left is resumed, or goes after a day.
_UNFINISHED_SECONDS = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a model; ``sha256`` is 64 hexadecimal digits."""

    filename: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class FullModel:
    """A version that is a whole model's folder; ``digest`` (``sha256:…``) is that folder's.

    Of kind FULL, then adapters on it name the digest as their base, or of kind ENCODER.
    """

    version: str
    name: str
    tenant: str
    digest: str
    files: tuple[ModelFile, ...]

    @property
    def size_bytes(self) -> int:
        """Length of all files."""
        return sum(file.size_bytes for file in self.files)

    @classmethod
    def of_manifest(cls, version: str, manifest: str, kind: str = "FULL") -> FullModel:
        """Read a manifest (canonical JSON) of a kind, whose digest is the version's id.  Raises WEIGHTS_REFUSED."""
        actual = f"sha256:{hashlib.sha256(manifest.encode()).hexdigest()}"
        if actual != version:
            raise _refused(f"the manifest has digest {actual}, not {version}")
        document = json.loads(manifest)
        if document["kind"] != kind:
            raise _refused(f"{version} is of kind {document['kind']}, not {kind}")
        files = tuple(ModelFile(**file) for file in document["files"])
        if not all(_FILENAME.match(file.filename) and _SHA256.match(file.sha256) for file in files):
            raise _refused("a file's name or digest in the manifest is none")
        digest = digest_of({file.filename: file.sha256 for file in files})
        if document["base_digest"] != digest:
            raise _refused(f"its files have the digest {digest}, the manifest says {document['base_digest']}")
        return cls(version, document["model"], document["tenant"], digest, files)


class FullModels:
    """The folders of full models below ``cache``; over ``max_bytes`` those longest unused go first (0: no bound)."""

    def __init__(self, cache: Path, *, max_bytes: int = 0) -> None:
        self._root = cache / "full"
        self._max_bytes = max_bytes
        self._fetching: dict[str, asyncio.Task[ResolvedModel]] = {}

    def local(self, digest: str) -> Path | None:
        """The folder with this digest, if it is here and whole.  Does not wait."""
        folder = self._place(digest)
        return folder if folder.is_dir() else None

    async def obtain(self, model: FullModel, download: Download) -> ResolvedModel:
        """The model's folder, fetched if need be: once, however many ask, and from where it was interrupted.

        A caller that goes away does not stop the fetch for the others.  Raises DISK_FULL,
        WEIGHTS_REFUSED, DIGEST_MISMATCH, and what ``download`` fails with.
        """
        task = self._fetching.get(model.digest)
        if task is None:
            task = asyncio.create_task(self._obtain(model, download), name=f"fetch {model.digest}")
            self._fetching[model.digest] = task
            task.add_done_callback(lambda _: self._fetching.pop(model.digest, None))
        return await asyncio.shield(task)

    @asynccontextmanager
    async def using(self, model: FullModel, download: Download) -> AsyncIterator[ResolvedModel]:
        """As :meth:`obtain`; inside the block no process's clean-up removes the folder."""
        while True:
            resolved = await self.obtain(model, download)
            with self._locked(model.digest, fcntl.LOCK_SH) as held:
                # Between the two somebody may have cleaned it up.
                if held and self.local(model.digest) is not None:
                    yield resolved
                    return
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)

    @contextmanager
    def holding(self, digest: str) -> Iterator[Path | None]:
        """The folder with this digest, kept from every clean-up inside the block; None when it is not here.

        Asks nobody: what is here serves on when the registry is away.
        """
        if self.local(digest) is None:
            yield None
            return
        with self._locked(digest, fcntl.LOCK_SH) as held:
            yield self.local(digest) if held else None

    def clean(self, needed_bytes: int = 0) -> int:
        """Remove unused folders, the longest unused first, until ``needed_bytes`` more stay under the bound.

        Returns how many went.  Also removes what interrupted fetches left a day ago.  Blocks.
        """
        self._clean_unfinished()
        kept = sorted(
            (path for path in self._root.glob("*") if _FOLDER.match(path.name)), key=lambda path: path.stat().st_mtime
        )
        total = sum(_size_bytes(folder) for folder in kept)
        gone = 0
        for folder in kept:
            crowded = self._max_bytes and total + needed_bytes > self._max_bytes
            if not crowded and shutil.disk_usage(self._root).free >= needed_bytes + RESERVE_BYTES:
                break
            size_bytes = _size_bytes(folder)
            if self._remove(folder):
                total -= size_bytes
                gone += 1
        return gone

    async def _obtain(self, model: FullModel, download: Download) -> ResolvedModel:
        folder = self._place(model.digest)
        if self.local(model.digest) is None:
            await asyncio.to_thread(self._make_root)
            await self._fetch_alone(model, folder, download)
        # The time of a folder is that of its last use.
        with suppress(FileNotFoundError):
            await asyncio.to_thread(os.utime, folder)
        uri = f"version:{model.version}"
        return ResolvedModel(folder, model.digest, model.name, kind_of(uri, folder), uri)

    async def _fetch_alone(self, model: FullModel, folder: Path, download: Download) -> None:
        """Fetch under the lock of all processes; return at once when another one has fetched it meanwhile."""
        while self.local(model.digest) is None:
            with self._locked(model.digest, fcntl.LOCK_EX) as held:
                if held and self.local(model.digest) is None:
                    await self._fetch(model, folder, download)
                    return
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)

    async def _fetch(self, model: FullModel, folder: Path, download: Download) -> None:
        incoming = folder.with_name(f"{folder.name}{_INCOMING}")
        await asyncio.to_thread(self._make_room, model, incoming)
        for file in model.files:
            target = incoming / file.filename
            if target.exists():
                continue
            offset = committed_bytes(target)
            offset = offset if offset <= file.size_bytes else 0
            await receive(download(file.sha256, offset), target, file.size_bytes, file.sha256, offset)
        await asyncio.to_thread(_publish, incoming, folder, model)

    def _make_room(self, model: FullModel, incoming: Path) -> None:
        with disk_full_named("the model cache"):
            incoming.mkdir(exist_ok=True)
        missing_bytes = model.size_bytes - _size_bytes(incoming)
        self.clean(missing_bytes)
        require_space(self._root, missing_bytes, "the model cache")

    def _make_root(self) -> None:
        with disk_full_named("the model cache"):
            self._root.mkdir(parents=True, exist_ok=True)

    def _place(self, digest: str) -> Path:
        return self._root / digest.removeprefix("sha256:")

    @contextmanager
    def _locked(self, digest: str, kind: int) -> Iterator[bool]:
        """Try to hold the model's lock; False when another process or task does.  A crash gives it free."""
        path = self._place(digest)
        with disk_full_named("the model cache"):
            lock = path.with_name(f".{path.name}{_LOCK}").open("w")
        with lock:
            try:
                fcntl.flock(lock, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    def _remove(self, folder: Path) -> bool:
        """Delete a folder that nobody uses; its name goes first, so that no half of it is ever met."""
        with self._locked(folder.name, fcntl.LOCK_EX) as held:
            if not held:
                return False
            removed = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}{_REMOVED}")
            with suppress(FileNotFoundError):
                folder.rename(removed)
        shutil.rmtree(removed, ignore_errors=True)
        return True

    def _clean_unfinished(self) -> None:
        oldest = time.time() - _UNFINISHED_SECONDS
        for leftover in self._root.glob(f"*{_REMOVED}"):
            shutil.rmtree(leftover, ignore_errors=True)
        for incoming in self._root.glob(f"*{_INCOMING}"):
            with self._locked(incoming.name.removesuffix(_INCOMING), fcntl.LOCK_EX) as held, suppress(OSError):
                if held and incoming.stat().st_mtime < oldest:
                    shutil.rmtree(incoming)


def _publish(incoming: Path, folder: Path, model: FullModel) -> None:
    """Give a complete folder its name, durably; what is in it and not in the manifest goes."""
    wanted = {file.filename for file in model.files}
    for path in incoming.iterdir():
        if path.name not in wanted:
            path.unlink()
    kind_of(f"version:{model.version}", incoming)
    # Each file is on disk already: receive() saw to it.
    sync_folder(incoming)
    publish(incoming, folder)


def _size_bytes(folder: Path) -> int:
    """Bytes of the files in a folder; of one that is being removed, what is left."""
    total = 0
    for path in folder.glob("*"):
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def _refused(problem: str) -> Failure:
    return Failure(Reason.WEIGHTS_REFUSED, problem=problem)
