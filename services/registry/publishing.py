"""From uploaded files to a version: every check in the order in which it is cheapest to fail."""

import asyncio
import re
from dataclasses import replace

from services.chassis.errors import Failure, Reason
from services.registry.bases import Base, Bases, module_shapes, require_base
from services.registry.callers import Caller
from services.registry.full_models import folder_digest
from services.registry.inspection.folder import CONFIG, TEMPLATE
from services.registry.manifests import Kind, Manifest
from services.registry.models import require_name
from services.registry.replay import Replay
from services.registry.uploads import require_accepted
from services.registry.verification import BaseFacts, Verification
from services.registry.version_view import Version
from services.registry.versions import Versions
from services.registry.works import Progress, Works

_DIGEST = re.compile(r"^sha256:[0-9a-f]{64}$")

# A version is shown with its manifest twice, as fields and as text, beside a thousand evaluations, in one message.
_MOST_MANIFEST_BYTES = 768 * 1024
# Callers know this call as a short one: only models that take long are asked for again.
_PATIENCE_SECONDS = 20.0


class Publishing:
    """Creates versions.  Nothing is written before every check has passed."""

    def __init__(self, versions: Versions, verification: Verification, bases: Bases) -> None:
        self._versions = versions
        self._verification = verification
        self._bases = bases

    async def publish_within(self, works: Works, caller: Caller, draft: Manifest, replay: Replay) -> Version:
        """As :meth:`publish`, but the check of a whole model may outlast the call.  Raises WORK_UNDER_WAY too."""
        if draft.kind is Kind.LORA:
            return await self.publish(caller, draft, replay)

        async def check(progress: Progress) -> Version:
            progress.say("its files are checked")
            return await self.publish(caller, draft, replay)

        return await works.join(replay.key, f"The check of {draft.model}", check, patience_seconds=_PATIENCE_SECONDS)

    async def publish(self, caller: Caller, draft: Manifest, replay: Replay) -> Version:
        """Check the files that ``draft`` names and record the version; what its files say is found here.

        Raises FIELD_INVALID, BLOB_MISSING, SIZE_MISMATCH, BASE_MISMATCH, WEIGHTS_REFUSED, REQUEST_ID_REUSED.
        """
        _check_names(draft)
        draft = _with_template(draft)
        _check_length(draft)
        base = None
        if draft.kind is Kind.LORA:
            base = await self.base_of(caller, draft.base_digest)
        else:
            draft = replace(draft, base_digest=_own_digest(draft))
        await self._versions.require_uploaded(caller, draft)
        found = await self._verification.inspect(draft.kind, draft.files, await self._facts(base))
        manifest = replace(draft, rank=found.rank, parameters=found.parameters, role=found.role)
        own_base = "" if base is None else base.version
        return await self._versions.create(
            caller, manifest, replay, unservable_reason=found.unservable_reason, own_base=own_base
        )

    async def base_of(self, caller: Caller, base_digest: str) -> Base | None:
        """The base that an adapter names: one of the deployment's, or a full model of the caller's tenant.

        None when the deployment knows none, and so refuses nobody.  Raises FIELD_INVALID, BASE_MISMATCH.
        """
        known = await asyncio.to_thread(self._bases.known)
        if base_digest not in (base.digest for base in known):
            own = await self._versions.own_base(caller, base_digest)
            if own is not None:
                name = f"{own.model}@{own.number}"
                return Base(name, base_digest, version=own.version, files=own.manifest.files)
        return require_base(base_digest, known)

    async def _facts(self, base: Base | None) -> BaseFacts:
        if base is not None and base.files:
            return BaseFacts(config=next(file.sha256 for file in base.files if file.filename == CONFIG))
        return BaseFacts(shapes=await asyncio.to_thread(module_shapes, base))


def _own_digest(draft: Manifest) -> str:
    digest = folder_digest(draft.files)
    if draft.base_digest not in ("", digest):
        problem = f"a full model or an encoder is named by its own files, {digest}; leave it empty"
        raise Failure(Reason.FIELD_INVALID, field="version.base_digest", problem=problem)
    return digest


def _with_template(draft: Manifest) -> Manifest:
    """The draft under the digest of the chat template that it brings, where it brings one.  Raises FIELD_INVALID."""
    brought = next((f"sha256:{file.sha256}" for file in draft.files if file.filename == TEMPLATE), "")
    if not brought:
        return draft
    if draft.template_digest not in ("", brought):
        problem = f"is not that of the {TEMPLATE} that the version brings, {brought}"
        raise Failure(Reason.FIELD_INVALID, field="version.template_digest", problem=problem)
    return replace(draft, template_digest=brought)


def _check_length(draft: Manifest) -> None:
    """Before anything is run.  Raises FIELD_INVALID, also for numbers that JSON cannot hold."""
    length = len(draft.canonical().encode())
    if length > _MOST_MANIFEST_BYTES:
        problem = f"its manifest has {length} bytes, over {_MOST_MANIFEST_BYTES}; say less in lineage.config"
        raise Failure(Reason.FIELD_INVALID, field="version.lineage", problem=problem)


def _check_names(draft: Manifest) -> None:
    require_name(draft.model)
    for field, digest in (
        ("base_digest", draft.base_digest),
        ("template_digest", draft.template_digest),
        ("tokenizer_digest", draft.tokenizer_digest),
        ("lineage.base_digest", draft.lineage.base_digest),
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
