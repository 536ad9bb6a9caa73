"""The registry over its stub: what a caller has, and bytes by digest.

Invariant: what leaves this module is a domain value or a Failure; what a caller has is asked
under its own identity, which the channel carries.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from trivium.registry.v1 import model_pb2, registry_pb2, registry_pb2_grpc

from services.chassis.errors import Failure, Reason
from services.chassis.peer_answers import answers
from services.chassis.runtime import Runtime
from services.chassis.streams import Chunk
from services.embedder.own_versions import VersionFacts

_REGISTRY = "registry"
# Longest that a question to it takes: what it said before serves on where it does not answer.
_SECONDS = 5.0
_PAGE = 100
# Of several versions behind an alias with canaries one, and the same for all texts: their vectors are compared.
_STICKY_KEY = "embedder"
# What the registry says that names nothing here.
_NOTHING = (Reason.MODEL_NOT_FOUND, Reason.VERSION_NOT_FOUND, Reason.FIELD_INVALID, Reason.REQUEST_INVALID)


class RemoteRegistry:
    """Implements :class:`services.embedder.own_versions.Registry`."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._stub: registry_pb2_grpc.RegistryServiceAsyncStub = registry_pb2_grpc.RegistryServiceStub(
            runtime.channel(_REGISTRY)
        )

    def as_service(self) -> AbstractAsyncContextManager[Any]:
        """As the Protocol says."""
        return self._runtime.as_service()

    async def meant(self, name: str) -> str:
        """As the Protocol says."""
        try:
            with answers(_REGISTRY):
                answer = await self._stub.ResolveModel(
                    registry_pb2.ResolveModelRequest(name=name, sticky_key=_STICKY_KEY), timeout=_SECONDS
                )
        except Failure as failure:
            if failure.reason not in _NOTHING:
                raise
            raise Failure(Reason.VERSION_NOT_FOUND, name=name, fate=await self._fate(name)) from failure
        if not answer.version:
            raise Failure(Reason.VERSION_NOT_FOUND, name=name, fate="")
        return answer.version

    async def _fate(self, name: str) -> str:
        """What became of a version that is named by model and number, in the registry's words; else empty."""
        model, at, reference = name.partition("@")
        if not at:
            return ""
        try:
            with answers(_REGISTRY):
                request = registry_pb2.GetVersionRequest(model=model, version=reference)
                await self._stub.GetVersion(request, timeout=_SECONDS)
        except Failure as failure:
            if failure.reason not in _NOTHING:
                raise
            return failure.variables.get("fate", "")
        return ""

    async def of_folder(self, digest: str) -> str:
        """As the Protocol says."""
        request = registry_pb2.SearchVersionsRequest(
            kind=model_pb2.VERSION_KIND_ENCODER, base_digest=digest, page_size=1
        )
        with answers(_REGISTRY):
            answer = await self._stub.SearchVersions(request, timeout=_SECONDS)
        return answer.found[0].version.version if answer.found else ""

    async def facts(self, version: str) -> VersionFacts:
        """As the Protocol says."""
        with answers(_REGISTRY):
            request = registry_pb2.GetVersionRequest(version=version)
            found = (await self._stub.GetVersion(request, timeout=_SECONDS)).version
        return VersionFacts(found.version, found.number, found.manifest)

    async def newest(self, most: int) -> Sequence[str]:
        """As the Protocol says."""
        return [version.version for version in await self._encoders(most)]

    async def names(self, most: int) -> Sequence[str]:
        """As the Protocol says."""
        return [f"{version.model}@{version.number}" for version in await self._encoders(most)]

    async def _encoders(self, most: int) -> Sequence[model_pb2.Version]:
        found: list[model_pb2.Version] = []
        request = registry_pb2.SearchVersionsRequest(kind=model_pb2.VERSION_KIND_ENCODER, page_size=min(most, _PAGE))
        while len(found) < most:
            with answers(_REGISTRY):
                page = await self._stub.SearchVersions(request, timeout=_SECONDS)
            found += [it.version for it in page.found]
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        return found[:most]

    async def download(self, sha256: str, offset: int) -> AsyncIterator[Chunk]:
        """As the Protocol says."""
        request = registry_pb2.DownloadBlobRequest(sha256=sha256, offset_bytes=offset)
        with answers(_REGISTRY):
            async for response in self._stub.DownloadBlob(request):
                yield response.chunk
