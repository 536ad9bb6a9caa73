"""From uploaded files to a version: every check in the order in which it is cheapest to fail."""

import asyncio
import re
from dataclasses import replace

from services.chassis.errors import Failure, Reason
from services.registry.bases import Bases, module_shapes, require_base
from services.registry.callers import Caller
from services.registry.manifests import Kind, Manifest
from services.registry.models import require_name
from services.registry.replay import Replay
from services.registry.uploads import require_accepted
from services.registry.verification import Verification
from services.registry.versions import Version, Versions

_DIGEST = re.compile(r"^sha256:[0-9a-f]{64}$")


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
    require_name(draft.model)
    for field, digest in (
        ("base_digest", draft.base_digest),
        ("template_digest", draft.template_digest),
        ("tokenizer_digest", draft.tokenizer_digest),
        *(("lineage.parent_version", parent) for parent in draft.lineage.parents),
    ):
        if digest and not _DIGEST.match(digest):
            problem = "must be sha256: and 64 hexadecimal digits"
            raise Failure(Reason.FIELD_INVALID, field=f"version.{field}", problem=problem)
    names = [file.filename for file in draft.files]
    if len(set(names)) != len(names):
        raise Failure(Reason.FIELD_INVALID, field="version.files", problem="a file name stands twice")
    for name in names:
        require_accepted(name, "version.files")
