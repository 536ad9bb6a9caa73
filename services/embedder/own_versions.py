"""What a name means to a tenant: an encoder of its own in the registry, and what that is.

The registry is asked under the caller's identity, so it decides what a tenant has; what it
said is believed for a few seconds.  Invariants: what one tenant was told is never used for
another; a version that the registry no longer has is served no longer than that; what a
version is follows from its manifest, whose digest is its id, so it is read once.
"""

import asyncio
import hashlib
import json
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from services.chassis.errors import Failure, Reason
from services.chassis.full_models import FullModel, ModelFile
from services.chassis.streams import Chunk
from services.embedder.embedding import Asking
from services.embedder.model import EncoderFacts
from services.embedder.shelf import unknown

KIND = "ENCODER"
# What tells an encoder's shapes; small files, which are read without the weights.
_DESCRIBING = ("config.json", "sentence_bert_config.json", "tokenizer_config.json")
_MOST_DESCRIBING_BYTES = 1 << 20
_MOST_LISTED = 100
# Of a tenant's own so many are named to somebody who names none of them.
_MOST_NAMED = 10
_DESCRIBED_AT_ONCE = 8
# Names and versions that are remembered over all tenants; those unused for longest go first.
_REMEMBERED = 4096
_DIGEST = re.compile(r"^sha256:[0-9a-f]{64}$")


class Role(StrEnum):
    """What an encoder is for."""

    EMBEDDER = "embedder"
    RERANKER = "reranker"


@dataclass(frozen=True, slots=True)
class VersionFacts:
    """A version as the registry tells it: its id, the digest of ``manifest``, and its number in its model."""

    version: str
    number: int
    manifest: str


@dataclass(frozen=True, slots=True)
class OwnVersion:
    """An encoder of a tenant's: its files, by which name people know it (MODEL@NUMBER), and what it computes."""

    files: FullModel
    role: Role
    facts: EncoderFacts


@dataclass(frozen=True, slots=True)
class Unfit:
    """A version of a tenant's that cannot be served, and why."""

    files: FullModel
    name: str
    problem: str


class Registry(Protocol):
    """The registry, under the identity of the request that is served.  All raise PEER_UNAVAILABLE."""

    async def meant(self, name: str) -> str:
        """The version that NAME, NAME@ALIAS or NAME@NUMBER means.

        Raises VERSION_NOT_FOUND (whose ``fate`` says what became of it), ALIAS_NOT_SERVING.
        """

    async def of_folder(self, digest: str) -> str:
        """The caller's newest encoder version whose folder has a digest; empty when there is none."""

    async def facts(self, version: str) -> VersionFacts:
        """A version of the caller's.  Raises VERSION_NOT_FOUND."""

    async def newest(self, most: int) -> Sequence[str]:
        """The caller's encoder versions, the newest first."""

    async def names(self, most: int) -> Sequence[str]:
        """MODEL@NUMBER of the caller's encoder versions, the newest first."""

    def download(self, sha256: str, offset: int) -> AsyncIterator[Chunk]:
        """A file's bytes from an offset."""

    def as_service(self) -> AbstractAsyncContextManager[Any]:
        """Context in which ``download`` may read any version's files, and goes on when the caller has gone."""


# From a version's files, the contents of those that describe it, and its name: its role and facts.
# Raises MODEL_SOURCE_INVALID.
Describe = Callable[[FullModel, Mapping[str, bytes], str], Awaitable[tuple[Role, EncoderFacts]]]


@dataclass(frozen=True, slots=True)
class _Belief:
    until: float
    own: OwnVersion


@dataclass(slots=True)
class OwnVersions:
    """What tenants have.  ``monotonic`` in seconds; what the registry said counts for ``believed_seconds``."""

    registry: Registry
    describe: Describe
    believed_seconds: float
    monotonic: Callable[[], float]
    # By tenant and name.
    _beliefs: OrderedDict[tuple[str, str], _Belief] = field(default_factory=OrderedDict)
    # By version, whose id covers the tenant.
    _known: OrderedDict[str, OwnVersion] = field(default_factory=OrderedDict)

    async def find(self, asking: Asking, name: str, known: Sequence[str]) -> OwnVersion:
        """The tenant's encoder of this name, digest of a version, or digest of a folder.

        Raises EMBEDDING_MODEL_NOT_FOUND with those ``known`` beside, the tenant's newest and what became of it,
        ALIAS_NOT_SERVING, MODEL_SOURCE_INVALID, PEER_UNAVAILABLE.
        """
        if not asking.tenant:
            raise unknown(name, known)
        belief = self._beliefs.get((asking.tenant, name))
        if belief is not None and belief.until > self.monotonic():
            self._beliefs.move_to_end((asking.tenant, name))
            return belief.own
        try:
            own = await self._asked(asking.tenant, name)
        except Failure as failure:
            if failure.reason is not Reason.VERSION_NOT_FOUND:
                raise
            fate = await self._fate(asking.tenant, name, failure)
            raise unknown(name, [*known, *await self._names(name)], fate) from failure
        self.believe(asking.tenant, name, own)
        return own

    def believed(self, asking: Asking, digest: str) -> OwnVersion | None:
        """What the registry said last of a digest to the tenant, however long ago; a name may mean another by now."""
        belief = self._beliefs.get((asking.tenant, digest)) if _DIGEST.match(digest) else None
        return belief.own if belief else None

    def believe(self, tenant: str, name: str, own: OwnVersion) -> None:
        """Take a version to be there for a while, under this name and its digests."""
        belief = _Belief(self.monotonic() + self.believed_seconds, own)
        for each in (name, own.files.digest, own.files.version):
            self._beliefs[tenant, each] = belief
            self._beliefs.move_to_end((tenant, each))
        while len(self._beliefs) > _REMEMBERED:
            self._beliefs.popitem(last=False)

    async def listed(self, asking: Asking) -> list[OwnVersion | Unfit]:
        """The tenant's encoders, the newest first, at most a hundred.  Raises PEER_UNAVAILABLE."""
        if not asking.tenant:
            return []
        turns = asyncio.Semaphore(_DESCRIBED_AT_ONCE)

        async def one(version: str) -> OwnVersion | Unfit | None:
            async with turns:
                try:
                    return await self._told(asking.tenant, version, live=True)
                except _Unserved as unserved:
                    return Unfit(unserved.files, unserved.name, unserved.failure.sentence)
                except Failure as failure:
                    if failure.reason is Reason.VERSION_NOT_FOUND:
                        # Deleted since it was listed.
                        return None
                    raise

        versions = await self.registry.newest(_MOST_LISTED)
        return [it for it in await asyncio.gather(*map(one, versions)) if it is not None]

    async def _asked(self, tenant: str, name: str) -> OwnVersion:
        """Ask the registry.  Raises what it refuses with, and MODEL_SOURCE_INVALID."""
        version = await self.registry.of_folder(name) if _DIGEST.match(name) else await self.registry.meant(name)
        try:
            return await self._told(tenant, version or name, live=bool(version))
        except _Unserved as unserved:
            raise unserved.failure from unserved

    async def _told(self, tenant: str, version: str, *, live: bool) -> OwnVersion:
        """What a version is; ``live`` where the registry has just said that it is there."""
        kept = self._known.get(version)
        if kept is not None and live and kept.files.tenant == tenant:
            return kept
        facts = await self.registry.facts(version)
        kept = self._known.get(facts.version)
        if kept is None or kept.files.tenant != tenant:
            kept = self._known[facts.version] = await self._read(tenant, facts)
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return kept

    async def _read(self, tenant: str, facts: VersionFacts) -> OwnVersion:
        manifest = json.loads(facts.manifest)
        name = f"{manifest['model']}@{facts.number}"
        if manifest["tenant"] != tenant or manifest["kind"] != KIND:
            # Of another tenant's no registry tells; were it to, this is what there is to say.
            what = "is an adapter or a full model in the registry, and no encoder"
            fate = f": {name} {what}" if manifest["tenant"] == tenant else ""
            raise Failure(Reason.VERSION_NOT_FOUND, name=name, fate=fate)
        files = FullModel.of_manifest(facts.version, facts.manifest, KIND)
        try:
            contents = {file.filename: await self._content(file) for file in files.files if _describes(file)}
            role, described = await self.describe(files, contents, name)
        except Failure as failure:
            if failure.reason is not Reason.MODEL_SOURCE_INVALID:
                raise
            raise _Unserved(files, name, failure) from failure
        return OwnVersion(files, role, described)

    async def _content(self, file: ModelFile) -> bytes:
        if file.size_bytes > _MOST_DESCRIBING_BYTES:
            problem = f"its {file.filename} has {file.size_bytes} bytes, over {_MOST_DESCRIBING_BYTES}"
            raise Failure(Reason.MODEL_SOURCE_INVALID, uri=file.filename, name=file.filename, problem=problem)
        content = b"".join([chunk.data async for chunk in self.registry.download(file.sha256, 0)])
        if hashlib.sha256(content).hexdigest() != file.sha256:
            raise Failure(Reason.DIGEST_MISMATCH, actual=hashlib.sha256(content).hexdigest(), announced=file.sha256)
        return content

    async def _names(self, name: str) -> Sequence[str]:
        """What the tenant may have meant; nobody mistypes a digest."""
        if _DIGEST.match(name):
            return []
        try:
            return await self.registry.names(_MOST_NAMED)
        except Failure:
            # That there is no such name is known all the same.
            return []

    async def _fate(self, tenant: str, name: str, failure: Failure) -> str:
        """What became of what a name meant, in the registry's words; and it is forgotten that it meant that."""
        belief = self._beliefs.pop((tenant, name), None)
        fate = failure.variables.get("fate", "")
        if fate or belief is None:
            return fate
        try:
            await self.registry.facts(belief.own.files.version)
        except Failure as told:
            return told.variables.get("fate", "")
        return ""


class _Unserved(Exception):
    """A version of the tenant's that cannot be served."""

    def __init__(self, files: FullModel, name: str, failure: Failure) -> None:
        super().__init__(name)
        self.files, self.name, self.failure = files, name, failure


def _describes(file: ModelFile) -> bool:
    return file.filename in _DESCRIBING
