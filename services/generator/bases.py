"""How a request finds its engine: from a version or a base's name to the host that serves it.

A full model of the registry is its own base: it is fetched by digest, and serves itself
and the adapters that are tied to that digest.  Invariants: whether a tenant may use a
base is asked of the registry under the caller's identity, for a base that runs already
too; what the manifest says of a folder is what the folder hashes to; the registry's word on
a full model that was found is kept (``kept_models``), for when the registry is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Protocol

from services.chassis.errors import Failure, Reason
from services.chassis.full_models import FullModel, FullModels
from services.generator.adapter_files import Downloads, Manifest, Served, VersionFacts, read_manifest
from services.generator.hosts import Base, Host, Opener
from services.generator.kept_models import KeptModels
from services.generator.places import not_ready
from services.generator.pool import Pool
from services.generator.verification import BaseRules

FULL = "FULL"
ENCODER = "ENCODER"
# Hosts that are known beyond the deployment's own; the one that nobody asked for longest is forgotten first.
_KNOWN = 16


class Readable(Protocol):
    """Versions of the registry under one identity: a caller's, or the service's own."""

    async def facts(self, version: str) -> VersionFacts:
        """The version, if this identity may read it.  Raises VERSION_NOT_FOUND."""
        ...


class Versions(Readable, Protocol):
    """The registry under a caller's identity."""

    async def full_model(self, name: str) -> str:
        """The version that ``base:NAME`` means, NAME may be a folder's digest; empty when it means no full model."""
        ...


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes.

    ``version`` is empty for the base alone, ``model`` likewise; ``facts`` are those of an adapter, None without one.
    """

    host: Host
    version: str = ""
    model: str = ""
    facts: VersionFacts | None = None

    @property
    def name(self) -> str:
        """The resolved name, as a receipt tells it."""
        if self.version:
            return f"{self.model}@{self.version}"
        return "base" if self.host.base.always_on else f"base:{self.host.base.name}"


class Bases:
    """The hosts of this generator, and how more of them come to be."""

    def __init__(
        self,
        pool: Pool,
        models: FullModels,
        downloads: Downloads,
        opened: Opener,
        blocking: Callable[..., Awaitable[Any]],
        kept: KeptModels,
        *,
        most_known: int = _KNOWN,
    ) -> None:
        self._pool = pool
        self._models = models
        self._downloads = downloads
        self._opened = opened
        self._blocking = blocking
        self._kept = kept
        self._most_known = most_known
        self._deployed: list[Host] = []
        # While more bases of the deployment are being prepared, nobody is told that one is not served.
        self.preparing = False
        self._opening: dict[str, asyncio.Task[Host]] = {}
        # What keeps a folder from being cleaned up, by digest, the longest unused first.
        self._held: dict[str, AsyncExitStack] = {}

    @property
    def default(self) -> Host:
        """The host of the deployment's default base."""
        return self._deployed[0]

    def deploy(self, host: Host) -> None:
        """Serve a base of the deployment's own; the first is the default, one that is served already stays."""
        if self._pool.get(host.digest) is not None:
            return
        self._deployed.append(host)
        self._pool.add(host)

    def known(self) -> str:
        """The deployment's bases as a message names them."""
        return ", ".join(f"{host.base.name} ({host.digest})" for host in self._deployed)

    def rules(self, digest: str) -> tuple[Served, BaseRules]:
        """What an adapter for a base must agree with.

        Raises BASE_MISMATCH for one that is not served here, NOT_READY while the deployment's are being prepared.
        """
        host = self._pool.get(digest)
        if host is None:
            raise self._not_served(Failure(Reason.BASE_MISMATCH, base=digest, known=self.known()))
        return Served(host.base.name, digest, host.tokenizer.template_digest), host.rules

    async def find(self, versions: Versions, version: str, base: str) -> Target:
        """Where a request for a version, or for a base alone, goes.

        Raises VERSION_NOT_FOUND, BASE_NOT_FOUND, BASE_MISMATCH when both are named and do not belong together,
        WEIGHTS_REFUSED, NOT_READY while the deployment's bases are being prepared, and what the registry fails with.
        """
        if not version:
            return await self._named(versions, base)
        target = await self.of(versions, await versions.facts(version))
        if base and base not in (target.host.digest, target.host.base.name):
            named = await self._named(versions, base)
            if named.host is not target.host:
                raise Failure(Reason.BASE_MISMATCH, base=target.host.digest, known=f"{base} ({named.host.digest})")
        return target

    async def of(self, versions: Readable, facts: VersionFacts) -> Target:
        """The target of a version whose facts are known.  Raises as :meth:`find`, FIELD_INVALID for an encoder."""
        manifest = read_manifest(facts)
        if manifest.kind == ENCODER:
            problem = f"{manifest.model} is an encoder, which answers nothing; name a model of text, and the encoder to the embedder"
            raise Failure(Reason.FIELD_INVALID, field="version", problem=problem)
        if manifest.kind == FULL:
            return Target(await self._full(facts, manifest), facts.version, manifest.model)
        return Target(await self._base_of(versions, facts, manifest), facts.version, manifest.model, facts)

    async def _named(self, versions: Versions, base: str) -> Target:
        for host in self._deployed:
            if base in (host.base.name, host.digest) or (not base and host is self.default):
                return Target(host)
        version = await versions.full_model(base)
        if not version:
            raise self._not_served(Failure(Reason.BASE_NOT_FOUND, name=base, known=self.known()))
        return await self.of(versions, await versions.facts(version))

    async def _base_of(self, versions: Readable, facts: VersionFacts, manifest: Manifest) -> Host:
        """The host of the base that an adapter is tied to."""
        host = self._pool.get(manifest.base_digest)
        if host is not None and (host.base.public or manifest.tenant in host.owners):
            self._touch(host)
            return host
        if not facts.base_version:
            raise self._not_served(Failure(Reason.BASE_MISMATCH, base=manifest.base_digest, known=self.known()))
        base = await versions.facts(facts.base_version)
        return await self._full(base, read_manifest(base))

    def _not_served(self, failure: Failure) -> Failure:
        return not_ready("the deployment's bases are being prepared") if self.preparing else failure

    async def _full(self, facts: VersionFacts, manifest: Manifest) -> Host:
        model = FullModel.of_manifest(facts.version, facts.manifest)
        host = self._pool.get(model.digest) or await self._open(model)
        host.belongs_to(manifest.tenant, facts.version, manifest.model)
        self._touch(host)
        if self._kept.facts(facts.version) is None:
            await self._blocking(self._kept.keep, facts)
        return host

    async def _open(self, model: FullModel) -> Host:
        """Fetch a full model and know its host; once, however many ask, whoever of them goes away."""
        task = self._opening.get(model.digest)
        if task is None:
            task = asyncio.create_task(self._opened_host(model), name=f"open {model.digest}")
            self._opening[model.digest] = task
            task.add_done_callback(lambda _: self._opening.pop(model.digest, None))
        return await asyncio.shield(task)

    async def _opened_host(self, model: FullModel) -> Host:
        await self._forget_unused()
        async with AsyncExitStack() as held:
            # The fetch is a task of its own that begins in here, with the service's identity.
            async with self._downloads.as_service():
                resolved = await held.enter_async_context(self._models.using(model, self._downloads.download))
            # Named by its digest: a model's name is its tenant's own affair.
            base = Base(model.digest, model.digest, resolved.path)
            host: Host = await self._blocking(self._opened, base)
            self._held[model.digest] = held.pop_all()
        self._pool.add(host)
        return host

    async def _forget_unused(self) -> None:
        for digest in list(self._held)[: max(0, len(self._held) + 1 - self._most_known)]:
            host = self._pool.get(digest)
            if host is None or self._pool.forget(host):
                held = self._held.pop(digest)
                if host is not None:
                    await host.constraints.close()
                await held.aclose()

    def _touch(self, host: Host) -> None:
        held = self._held.pop(host.digest, None)
        if held is not None:
            self._held[host.digest] = held

    async def close(self) -> None:
        """Let go of the folders."""
        for task in list(self._opening.values()):
            task.cancel()
        await asyncio.gather(*self._opening.values(), return_exceptions=True)
        for held in self._held.values():
            await held.aclose()
