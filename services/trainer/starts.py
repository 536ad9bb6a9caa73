"""The adapters that training starts from: found in the registry, brought into the folders of their jobs.

Invariant: a job starts from the very version that its order names, on the base that it was trained on, and it is the
tenant's own: it comes out of the registry under the tenant's identity.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from services.chassis.errors import Failure, Reason
from services.chassis.files import disk_full_named, publish, sync_tree
from services.chassis.streams import receive
from services.trainer.bases import Chosen, Registry
from services.trainer.going_on import Start, shape_of
from services.trainer.job import Job
from services.trainer.peft_layout import CONFIG, WEIGHTS

START = "start"
_FILES = frozenset({WEIGHTS, CONFIG})


@dataclass(frozen=True, slots=True)
class OwnAdapter:
    """An adapter of a tenant's, the base it belongs to, and the manifest that its version is the digest of."""

    version: str
    base_digest: str
    manifest: str


class Adapters(Registry, Protocol):
    """The registry as this file needs it, under the identity of whoever is served."""

    async def adapter(self, name: str) -> OwnAdapter:
        """The adapter that ``MODEL@VERSION``, ``MODEL@ALIAS`` or ``sha256:…`` means.

        Raises MODEL_NOT_FOUND, VERSION_NOT_FOUND, VERSION_AMBIGUOUS, ALIAS_NOT_SERVING, FIELD_INVALID for a full model,
        and what else the registry fails with.
        """


class Starts:
    """``folder`` holds the jobs' folders."""

    def __init__(self, registry: Adapters, folder: Path) -> None:
        self._registry = registry
        self._folder = folder

    async def chosen(self, name: str, base: Chosen) -> Start | None:
        """The adapter that ``name`` means, with its shape; None for no name.

        Raises FIELD_INVALID for an adapter of another base, or of a kind that is not trained here.
        """
        if not name:
            return None
        found = await self._registry.adapter(name)
        if found.base_digest != base.digest:
            problem = (
                f"{name} is an adapter of the base {found.base_digest[:19]}…, the job trains on {base.name} "
                f"({base.digest[:19]}…); name the base that it was trained on"
            )
            raise Failure(Reason.FIELD_INVALID, field="start_version", problem=problem)
        sha256 = next(file["sha256"] for file in json.loads(found.manifest)["files"] if file["filename"] == CONFIG)
        config = b"".join([chunk.data async for chunk in self._registry.download(sha256, 0)])
        return Start(name, found.version, shape_of(name, json.loads(config)))

    def path(self, job: Job) -> str:
        """The folder of the adapter that the job starts from; empty for none."""
        return str(self._folder / job.job / START) if job.order.start_version else ""

    def here(self, job: Job) -> bool:
        """Whether it is on this machine."""
        return not job.order.start_version or (self._folder / job.job / START).is_dir()

    async def fetch(self, job: Job) -> None:
        """Bring it here.  Raises VERSION_NOT_FOUND when it was deleted, DISK_FULL, and what the registry fails with."""
        async with self._registry.acting_for(job.tenant, job.principal):
            found = await self._registry.adapter(job.order.start_version)
            files = [file for file in json.loads(found.manifest)["files"] if file["filename"] in _FILES]
            target = self._folder / job.job / START
            incoming = target.with_name(f"tmp-{START}")
            shutil.rmtree(incoming, ignore_errors=True)
            with disk_full_named(self._folder):
                incoming.mkdir(parents=True)
                for file in files:
                    chunks = self._registry.download(file["sha256"], 0)
                    await receive(chunks, incoming / file["filename"], file["size_bytes"], file["sha256"], 0)
                sync_tree(incoming)
                publish(incoming, target)
