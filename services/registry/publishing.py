"""From uploaded files to a version: every check in the order in which it is cheapest to fail."""

import asyncio
from dataclasses import replace

from services.chassis.errors import Failure, Reason
from services.registry.bases import Bases, module_shapes, require_base
from services.registry.callers import Caller
from services.registry.manifests import Kind, Manifest
from services.registry.models import RESERVED
from services.registry.replay import Replay
from services.registry.uploads import SUFFIXES
from services.registry.verification import Verification
from services.registry.versions import Version, Versions


class Publishing:
    """Creates versions.  Nothing is written before every check has passed."""

    def __init__(self, versions: Versions, verification: Verification, bases: Bases) -> None:
        self._versions = versions
        self._verification = verification
        self._bases = bases

    async def publish(self, caller: Caller, draft: Manifest, replay: Replay) -> Version:
        """Check the files that ``draft`` names and record the version; its rank and parameters are found here.

        Raises FIELD_INVALID, BLOB_MISSING, SIZE_MISMATCH, BASE_MISMATCH, WEIGHTS_REFUSED, REQUEST_ID_REUSED.
        """
        _check_names(draft)
        draft.canonical()  # refuses numbers that JSON cannot hold before anything is run
        base = None
        if draft.kind is Kind.LORA:
            base = require_base(draft.base_digest, await asyncio.to_thread(self._bases.known))
        await self._versions.require_uploaded(caller, draft)
        shapes = await asyncio.to_thread(module_shapes, base)
        found = await self._verification.inspect(draft.kind, draft.files, shapes)
        manifest = replace(draft, rank=found.rank, parameters=found.parameters)
        return await self._versions.create(caller, manifest, replay)


def _check_names(draft: Manifest) -> None:
    if draft.model in RESERVED:
        raise Failure(
            Reason.FIELD_INVALID, field="version.model", problem=f"{draft.model} is a name of the platform's own"
        )
    names = [file.filename for file in draft.files]
    if len(set(names)) != len(names):
        raise Failure(Reason.FIELD_INVALID, field="version.files", problem="a file name stands twice")
    for name in names:
        if not name.endswith(SUFFIXES):
            raise Failure(
                Reason.WEIGHTS_REFUSED,
                field="version.files",
                problem=f"{name[:128]} is neither .safetensors nor .json, and nothing else is accepted",
            )
