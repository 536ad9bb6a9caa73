"""Merges: an adapter baked into its base, in a child under limits, kept as a version like any other.

Invariants: a merge is a version or nothing; whatever a kill leaves is a folder that the next start clears.  An adapter
is merged into a model once: those who ask meanwhile, here or at another replica, wait for that, and later ones find it.
"""

import asyncio
import json
import shutil
import sys
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from services.chassis.blobs import Blobs
from services.chassis.errors import Failure, Reason
from services.chassis.files import disk_full_named, require_space
from services.chassis.processes import say, spawn
from services.registry.bases import Base
from services.registry.callers import Caller
from services.registry.inspection.full import belongs
from services.registry.manifests import File, Kind, Lineage, Manifest
from services.registry.models import require_name
from services.registry.publishing import Publishing
from services.registry.replay import Replay
from services.registry.uploads import Uploads
from services.registry.verification import ENVIRONMENT, ROOT
from services.registry.version_view import Version
from services.registry.versions import Versions
from services.registry.works import Progress, Works

_PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from services.registry.merging.child import main; main()"
_MIB = 1024 * 1024
_LINE_BYTES = 1024 * 1024


class Merges:
    """The verb; ``folder`` is where merged files grow before they are blobs, on the same disk."""

    def __init__(
        self,
        blobs: Blobs,
        uploads: Uploads,
        publishing: Publishing,
        versions: Versions,
        works: Works,
        folder: Path,
        max_blob_bytes: int,
    ) -> None:
        self._blobs = blobs
        self._uploads = uploads
        self._publishing = publishing
        self._versions = versions
        self._works = works
        self._folder = folder
        self._max_blob_bytes = max_blob_bytes

    async def run(self, caller: Caller, model: str, reference: str, target: str, replay: Replay) -> Version:
        """A full version of ``target`` that computes what the adapter does over its base.

        The same merge again is the same version, whoever asks; at once it is done once.  Raises MODEL_NOT_FOUND,
        VERSION_NOT_FOUND, FIELD_INVALID for what is no adapter, BASE_MISMATCH when the base's files are not at hand,
        WEIGHTS_REFUSED for what has no place in the base, DISK_FULL, REQUEST_ID_REUSED, and WORK_UNDER_WAY while it
        goes on.
        """
        require_name(target)
        known = await self._versions.replayed(caller, replay)
        if known is not None:
            return known
        adapter = await self._versions.get(Caller(caller.tenant, caller.principal), model, reference)
        if adapter.manifest.kind is not Kind.LORA:
            encoder = adapter.manifest.kind is Kind.ENCODER
            what = "an encoder; only adapters are merged" if encoder else "a full model already"
            problem = f"{model}@{adapter.number} is {what}"
            raise Failure(Reason.FIELD_INVALID, field="version", problem=problem)
        base = await self._publishing.base_of(caller, adapter.manifest.base_digest)
        if base is None or not (base.files or base.folder):
            digest = adapter.manifest.base_digest
            known_bases = "only bases whose files are here; import it as a full model first"
            raise Failure(Reason.BASE_MISMATCH, name=digest, base=digest, known=known_bases)

        made = await self._made(caller, adapter, base, target)
        if made is None:
            made = await self._works.join(
                replay.key,
                f"The merge of {model}@{adapter.number}",
                partial(self._work, caller, adapter, base, target, replay),
                work=f"{adapter.version} {base.digest} {target}",
            )
        return await self._versions.answered(caller, made, replay)

    async def _made(self, caller: Caller, adapter: Version, base: Base, target: str) -> Version | None:
        """What an earlier merge of these made, whoever asked for it."""
        for version in await self._versions.made_from(caller, target, adapter.version):
            told = version.manifest.lineage.config.get("merged")
            merged = told if version.manifest.kind is Kind.FULL and isinstance(told, Mapping) else {}
            if (merged.get("adapter"), merged.get("base_digest")) == (adapter.version, base.digest):
                return version
        return None

    async def _work(
        self, caller: Caller, adapter: Version, base: Base, target: str, replay: Replay, progress: Progress
    ) -> Version:
        # Another replica may have ended it between our look and our lease.
        made = await self._made(caller, adapter, base, target)
        return made or await self._merge(caller, adapter, base, target, replay, progress)

    async def _merge(
        self, caller: Caller, adapter: Version, base: Base, target: str, replay: Replay, progress: Progress
    ) -> Version:
        out = self._folder / uuid.uuid4().hex
        with disk_full_named("the blobs"):
            await asyncio.to_thread(lambda: out.mkdir(parents=True))
        try:
            async with AsyncExitStack() as stack:
                of_base = await stack.enter_async_context(self._of_base(base))
                of_adapter = await stack.enter_async_context(self._here(adapter.manifest.files))
                whole = sum(path.stat().st_size for path in of_base.values())
                await asyncio.to_thread(require_space, self._folder, whole, "the blobs")
                task = {"base": of_base, "adapter": of_adapter, "out": out, "most_bytes": self._max_blob_bytes}
                files, code = await self._ask(task, whole, progress)
            progress.say("it is checked and kept")
            for file in files:
                await self._uploads.take(caller, file, out / file.filename)
        finally:
            await asyncio.to_thread(shutil.rmtree, out, ignore_errors=True)
        lineage = Lineage(
            parent_version=adapter.version,
            further_parents=(base.version,) if base.version else (),
            config={"merged": {"adapter": adapter.version, "base": base.name, "base_digest": base.digest}},
            code_version=code,
            base_digest=base.digest,
        )
        draft = Manifest(caller.tenant, target, Kind.FULL, "", "", "", tuple(files), lineage)
        return await self._publishing.publish(caller, draft, replay)

    @asynccontextmanager
    async def _of_base(self, base: Base) -> AsyncIterator[Mapping[str, Path]]:
        if base.folder is None:
            async with self._here(base.files) as paths:
                yield paths
        else:
            yield {path.name: path for path in sorted(base.folder.iterdir()) if belongs(path.name)}

    @asynccontextmanager
    async def _here(self, files: tuple[File, ...]) -> AsyncIterator[Mapping[str, Path]]:
        async with AsyncExitStack() as stack:
            yield {file.filename: await stack.enter_async_context(self._blobs.local(file.sha256)) for file in files}

    async def _ask(self, task: Mapping[str, Any], whole: int, progress: Progress) -> tuple[list[File], str]:
        """Have the child write the files; returns them and its code's version.  Raises WEIGHTS_REFUSED, DISK_FULL."""
        child = await spawn(
            [sys.executable, "-I", "-c", _PROGRAM, ROOT],
            env=ENVIRONMENT,
            cwd=Path("/"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=_LINE_BYTES,
        )
        answer: dict[str, Any] = {}
        try:
            assert child.process.stdin is not None
            assert child.process.stdout is not None
            # A child that ends before it has heard says why, or its status does.
            with suppress(ConnectionError):
                say(child.process, json.dumps(task, default=_plain).encode())
            child.process.stdin.close()
            while line := await child.process.stdout.readline():
                answer = json.loads(line)
                progress.say(f"{answer.get('done', 0) // _MIB} of {whole // _MIB} MiB are merged")
            status = await child.wait()
        finally:
            if child.process.returncode is None:
                await asyncio.shield(child.kill())
        if answer.get("full"):
            raise Failure(Reason.DISK_FULL, what="the blobs")
        if status != 0 or "files" not in answer:
            problem = answer.get("problem") or "the merge ran out of memory or time"
            raise Failure(Reason.WEIGHTS_REFUSED, problem=f"it cannot be merged: {problem}")
        files = [File(name, sha256, size_bytes) for name, sha256, size_bytes in answer["files"]]
        return files, str(answer["code"])

    def discard_remains(self) -> None:
        """Remove what merges left that a kill ended; call before the first.  Blocks."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _plain(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else str(value)
