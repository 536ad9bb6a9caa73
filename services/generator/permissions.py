"""Whether a caller may read a version: the registry's word, and without the registry what was kept of it.

A version never changes and belongs to one tenant, and both stand in the manifest that its id is the digest of.  So a
generator that is cut off can tell from its own files whom it serves a version to; the one thing it cannot learn is that
the version was deleted meanwhile.  Decision: it serves on for ``limit_seconds`` after the registry last answered, and
says after that that the registry is away.

Invariant: what the registry answers, a refusal included, counts.  It is asked first, unless it has just failed to
answer, and is not waited for long where the files can tell: a network that swallows calls must not hold requests up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from services.chassis.context import Role, current
from services.chassis.errors import Code, Failure
from services.generator.bases import Versions
from services.generator.manifests import VersionFacts, read_manifest

# How long a registry is waited for, and how long after it failed it is not asked, where the files can tell.
_PATIENCE_SECONDS = 2.0
_AWAY_SECONDS = 5.0
_AWAY = frozenset({Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED})


class LocalFacts(Protocol):
    """What was kept of the registry's word beside verified files."""

    async def kept_facts(self, version: str) -> VersionFacts | None:
        """The word, or None when the version does not lie here."""
        ...


class Permissions:
    """The registry where it answers, the local files where it does not."""

    def __init__(
        self, versions: Versions, local: LocalFacts, monotonic: Callable[[], float], limit_seconds: float
    ) -> None:
        self._versions = versions
        self._local = local
        self._now = monotonic
        self._limit_seconds = limit_seconds
        self._heard_at = monotonic()
        self._away_until = self._heard_at

    async def full_model(self, name: str) -> str:
        """As the registry says: of full models nothing is kept here.  Raises what it fails with."""
        return await self._versions.full_model(name)

    async def facts(self, version: str) -> VersionFacts:
        """The version, if the caller may read it.

        Raises VERSION_NOT_FOUND, and what the registry fails with for what does not lie here or is not the caller's.
        """
        kept = await self._kept(version)
        if kept is not None and self._now() < self._away_until:
            return kept
        try:
            async with asyncio.timeout(None if kept is None else _PATIENCE_SECONDS):
                facts = await self._versions.facts(version)
        except TimeoutError:
            facts = None
        except Failure as failure:
            if failure.code not in _AWAY:
                self._heard_at = self._now()
            if kept is None or failure.code not in _AWAY:
                raise
            facts = None
        if facts is None:
            self._away_until = self._now() + _AWAY_SECONDS
            assert kept is not None
            return kept
        self._heard_at = self._now()
        return facts

    async def _kept(self, version: str) -> VersionFacts | None:
        """What the files say, if it is the caller's and not too old to be believed."""
        if self._now() - self._heard_at > self._limit_seconds:
            return None
        kept = await self._local.kept_facts(version)
        caller = current()
        if kept is None or not (caller.has(Role.SERVICE) or read_manifest(kept).tenant == caller.tenant_id):
            return None
        return kept
