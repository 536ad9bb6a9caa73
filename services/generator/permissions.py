"""Whether a caller may read a version: the registry's word, and without the registry what was kept of it.

A version never changes and belongs to one tenant, and both stand in the manifest that its id is the digest of.  So a
generator that is cut off can tell from its own files whom it serves an adapter or a full model to; the one thing it
cannot learn is that the version was deleted meanwhile.  Decision: it serves on for ``limit_seconds`` after the registry
last answered, and says after that that the registry is away.  What a full model's name means is believed as it was last
heard, a folder's digest means the tenant's own model with that folder.

Invariant: what the registry answers, a refusal included, counts.  It is asked first, unless it has just failed to
answer, and is not waited for long where the files can tell: a network that swallows calls must not hold requests up.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Protocol, TypeVar

from services.chassis.context import Role, current
from services.chassis.errors import Code, Failure
from services.generator.bases import FULL, Versions
from services.generator.manifests import VersionFacts, read_manifest

T = TypeVar("T")

# How long a registry is waited for, and how long after it failed it is not asked, where the files can tell.
_PATIENCE_SECONDS = 2.0
_AWAY_SECONDS = 5.0
_AWAY = frozenset({Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED})
# Names of full models whose meaning is remembered, the last asked for.
_NAMES = 4096


class LocalFacts(Protocol):
    """What was kept of the registry's word beside verified files."""

    async def kept_facts(self, version: str) -> VersionFacts | None:
        """The word, or None when the version does not lie here."""
        ...


class LocalModels(Protocol):
    """What was kept of the registry's word on full models."""

    def facts(self, version: str) -> VersionFacts | None:
        """The word, or None when nothing was kept."""
        ...

    def of_folder(self, tenant: str, digest: str) -> str:
        """The tenant's version whose folder has a digest, empty without one."""
        ...


class Permissions:
    """The registry where it answers, the local files where it does not."""

    def __init__(
        self,
        versions: Versions,
        local: LocalFacts,
        models: LocalModels,
        monotonic: Callable[[], float],
        limit_seconds: float,
        *,
        patience_seconds: float = _PATIENCE_SECONDS,
    ) -> None:
        self._versions = versions
        self._local = local
        self._models = models
        self._now = monotonic
        self._limit_seconds = limit_seconds
        self._patience_seconds = patience_seconds
        self._heard_at = monotonic()
        self._away_until = self._heard_at
        self._names: OrderedDict[tuple[str, str], str] = OrderedDict()

    async def full_model(self, name: str) -> str:
        """The version of the caller's tenant that ``base:NAME`` means; empty when there is none.

        Raises what the registry fails with for what is not remembered.
        """
        key = (current().tenant_id, name)
        kept = None
        if not self._too_old():
            kept = self._names.get(key) or self._models.of_folder(*key) or None
        version = await self._heard(lambda: self._versions.full_model(name), kept)
        self._names.pop(key, None)
        if version:
            self._names[key] = version
        if len(self._names) > _NAMES:
            self._names.popitem(last=False)
        return version

    async def facts(self, version: str) -> VersionFacts:
        """The version, if the caller may read it.

        Raises VERSION_NOT_FOUND, and what the registry fails with for what does not lie here or is not the caller's.
        """
        return await self._heard(lambda: self._versions.facts(version), await self._kept(version))

    async def _heard(self, ask: Callable[[], Awaitable[T]], kept: T | None) -> T:
        """The registry's answer; what was kept instead while the registry is away."""
        if kept is not None and self._now() < self._away_until:
            return kept
        try:
            async with asyncio.timeout(None if kept is None else self._patience_seconds):
                answer = await ask()
        except TimeoutError:
            assert kept is not None
            return self._away(kept)
        except Failure as failure:
            if failure.code not in _AWAY:
                self._heard_at = self._now()
            if kept is None or failure.code not in _AWAY:
                raise
            return self._away(kept)
        self._heard_at = self._now()
        return answer

    def _away(self, kept: T) -> T:
        self._away_until = self._now() + _AWAY_SECONDS
        return kept

    async def _kept(self, version: str) -> VersionFacts | None:
        """What the files say, if it is the caller's and not too old to be believed."""
        if self._too_old():
            return None
        kept = self._models.facts(version) or await self._local.kept_facts(version)
        if kept is None:
            return None
        manifest = read_manifest(kept)
        caller = current()
        if not (caller.has(Role.SERVICE) or manifest.tenant == caller.tenant_id):
            return None
        base = "" if manifest.kind == FULL else self._models.of_folder(manifest.tenant, manifest.base_digest)
        return replace(kept, base_version=base)

    def _too_old(self) -> bool:
        return self._now() - self._heard_at > self._limit_seconds
