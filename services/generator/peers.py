"""The registry over its stub: what a caller may read, bytes by digest, changes, readiness.

Invariant: what leaves this file is a domain value or a Failure.  ``RegistryVersions``
asks under the caller's own identity; ``RemoteRegistry`` under the service's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import grpc
from trivium.registry.v1 import model_pb2, registry_pb2, registry_pb2_grpc

from services.chassis.context import current
from services.chassis.errors import Failure, Reason
from services.chassis.peer_answers import answers
from services.chassis.runtime import Runtime
from services.chassis.streams import Chunk
from services.generator.adapter_files import VersionFacts
from services.generator.aliases import AliasSeen, Change
from services.generator.announcing import Word

_WORDS = {
    None: model_pb2.READINESS_STATE_UNSPECIFIED,
    Word.LOADING: model_pb2.READINESS_STATE_LOADING,
    Word.READY: model_pb2.READINESS_STATE_READY,
    Word.FAILED: model_pb2.READINESS_STATE_FAILED,
}
_PAGE = 1000


class RegistryVersions:
    """Whether the caller may read a version, believed for a short while."""

    def __init__(self, channel: grpc.aio.Channel, cache_seconds: float, monotonic: Callable[[], float]) -> None:
        self._stub = registry_pb2_grpc.RegistryServiceStub(channel)
        self._cache_seconds = cache_seconds
        self._monotonic = monotonic
        self._known: dict[tuple[str, str, str], tuple[float, VersionFacts]] = {}

    async def facts(self, version: str) -> VersionFacts:
        """The version, if the caller may read it.  Raises VERSION_NOT_FOUND, PEER_UNAVAILABLE."""
        caller = current()
        key = (caller.tenant_id, caller.principal_id, version)
        now = self._monotonic()
        until, facts = self._known.get(key, (0.0, None))
        if facts is None or until <= now:
            facts = await _version(self._stub, version)
            self._known = {other: kept for other, kept in self._known.items() if kept[0] > now}
            self._known[key] = (now + self._cache_seconds, facts)
        return facts

    async def full_model(self, name: str) -> str:
        """The version of the caller's tenant that ``base:NAME`` means; empty when there is none."""
        try:
            with answers("registry"):
                answer = await self._stub.ResolveModel(registry_pb2.ResolveModelRequest(name=f"base:{name}"))
        except Failure as failure:
            if failure.reason in (Reason.MODEL_NOT_FOUND, Reason.VERSION_NOT_FOUND, Reason.FIELD_INVALID):
                return ""
            raise
        return str(answer.version)


class RemoteRegistry:
    """Implements ``watcher.Registry`` and ``adapter_files.Downloads``."""

    def __init__(self, runtime: Runtime, generator_id: str) -> None:
        self._runtime = runtime
        self._id = generator_id
        # What former processes said of this generator must not count for this one.
        self._instance = runtime.new_id()
        self._stub = registry_pb2_grpc.RegistryServiceStub(runtime.channel("registry"))

    def as_service(self) -> AbstractAsyncContextManager[Any]:
        """Work as the generator itself."""
        return self._runtime.as_service()

    async def download(self, sha256: str, offset: int) -> AsyncIterator[Chunk]:
        """A file's bytes from an offset, whole chunks as they come."""
        request = registry_pb2.DownloadBlobRequest(sha256=sha256, offset_bytes=offset)
        with answers("registry"):
            async for response in self._stub.DownloadBlob(request):
                yield response.chunk

    async def facts(self, version: str) -> VersionFacts:
        """A version of any tenant."""
        return await _version(self._stub, version)

    async def aliases(self) -> Sequence[AliasSeen]:
        """Every tenant's aliases of what generators serve, all pages."""
        seen: list[AliasSeen] = []
        request = registry_pb2.ListAliasesRequest(page_size=_PAGE)
        while True:
            with answers("registry"):
                page = await self._stub.ListAliases(request)
            seen += [_alias(alias, "") for alias in page.aliases if _ours(alias)]
            if not page.next_page_token:
                return seen
            request.page_token = page.next_page_token

    async def changes(self, after: int) -> AsyncIterator[Change]:
        """The registry's stream of changes, in its order."""
        with answers("registry"):
            async for response in self._stub.Watch(registry_pb2.WatchRequest(after_sequence=after)):
                event = response.event
                told = event.HasField("alias") and _ours(event.alias)
                yield Change(
                    sequence=event.sequence,
                    alias=_alias(event.alias, event.tenant) if told else None,
                    deleted=event.kind == model_pb2.EVENT_KIND_ALIAS_DELETED,
                    caught_up=response.caught_up,
                    version_deleted=event.kind == model_pb2.EVENT_KIND_VERSION_DELETED,
                )

    async def report(self, tenant: str, version: str, word: Word | None, reason: str) -> None:
        """Tell the registry; all empty is a heartbeat."""
        request = registry_pb2.ReportReadinessRequest(
            generator=self._id,
            instance=self._instance,
            tenant=tenant,
            version=version,
            state=_WORDS[word],
            reason=reason[:2000],
        )
        with answers("registry"):
            await self._stub.ReportReadiness(request)


async def _version(stub: Any, version: str) -> VersionFacts:
    with answers("registry"):
        answer = await stub.GetVersion(registry_pb2.GetVersionRequest(version=version))
    return VersionFacts(answer.version.version, answer.version.manifest, answer.version.base_version)


def _ours(alias: model_pb2.Alias) -> bool:
    """Whether an alias is of what generators serve; encoders are the embedder's."""
    return alias.kind != model_pb2.VERSION_KIND_ENCODER


def _alias(alias: model_pb2.Alias, tenant: str) -> AliasSeen:
    return AliasSeen(
        tenant=alias.tenant or tenant,
        model=alias.model,
        alias=alias.alias,
        target=alias.target_version,
        serving=alias.serving_version,
        pending=alias.state == model_pb2.ALIAS_STATE_PENDING,
        canaries=tuple(
            (canary.version, canary.state == model_pb2.CANARY_STATE_PENDING)
            for canary in alias.canaries
            # What could not be loaded is not tried again before somebody sets it again.
            if canary.state != model_pb2.CANARY_STATE_FAILED
        ),
        previous=alias.previous_version,
    )
